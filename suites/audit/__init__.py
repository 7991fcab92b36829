"""The audit: tables of claims tested before any model runs. `audit()` runs every rule."""

from collections.abc import Iterable

from vlm_gauntlet.methods.claims import Claim, claims

from .arithmetic import differences, means
from .copies import duplicates
from .finding import Finding
from .orders import orders
from .training_set import training_set_in_mean
from .two_values import two_values

RULES = (means, differences, training_set_in_mean, duplicates, two_values, orders)


def audit(over: Iterable[Claim] | None = None) -> list[Finding]:
    """Findings of all rules over the claims (default: all of the project), gravest first."""
    found = tuple(claims() if over is None else over)
    made = [finding for rule in RULES for finding in rule(found)]
    return sorted(made, key=lambda f: (-f.gravity, f.rule, f.cells))
