"""How near each attacker comes to the best known, over a grid of radii (AttackBench, arXiv 2404.19460).

Of attacker a on one row: 1 - (A_a - A*) / (clean eps_max - A*), with A_a the area under his robustness curve and A*
that under the curve of all attackers together. 1: nobody breaks a sample at a smaller radius; 0: he breaks nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .robustness_curve import RobustnessCurve, best_curve


@dataclass(frozen=True)
class Optimality:
    """One attacker on one row.

    Args:
        attacker: see RobustnessCurve.
        value: in [0, 1]; None where no attacker breaks anything, so that nobody can be compared.
        area: under his curve.
        passes: image-encoder passes for one sample on the whole grid.
    """

    attacker: str
    value: float | None
    area: float
    passes: float


@dataclass(frozen=True)
class BeatenBy:
    """The best attacker known at one radius.

    Args:
        attacker: who leaves the least; of several the cheapest.
        accuracy: what he leaves.
        together: what all attackers leave together.
        passes: his image-encoder passes for one sample, up to this radius.
    """

    attacker: str
    accuracy: float
    together: float
    passes: float


def optimality(known: Sequence[RobustnessCurve]) -> list[Optimality]:
    """Each attacker of one row, the best first, of equals the cheapest."""
    best = best_curve(known)
    room = best.accuracy[0] * float(best.grid[-1]) - best.area
    found = []
    for curve in known:
        value = 1 - (curve.area - best.area) / room if room > 0 else None
        found.append(Optimality(curve.attacker, value, curve.area, curve.passes[-1]))
    return sorted(found, key=lambda one: (one.area, one.passes, one.attacker))


def beaten_by(known: Sequence[RobustnessCurve], eps: Fraction) -> BeatenBy | None:
    """Who leaves the least at a radius, and at what budget; None where nobody takes anything."""
    index = max(i for i, tried in enumerate(known[0].grid) if tried <= eps)
    chosen = min(known, key=lambda curve: (curve.accuracy[index], curve.passes[index], curve.attacker))
    if chosen.accuracy[index] >= chosen.accuracy[0]:
        return None
    together = best_curve(known).accuracy[index]
    return BeatenBy(chosen.attacker, chosen.accuracy[index], together, chosen.passes[index])


def over_rows(rows: Iterable[Sequence[Optimality]]) -> dict[str, tuple[float, int]]:
    """Attacker -> (mean optimality, number of rows), over the rows where he could be compared; the best first."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for one in row:
            if one.value is not None:
                values[one.attacker].append(one.value)
    means = {attacker: (sum(found) / len(found), len(found)) for attacker, found in values.items()}
    return dict(sorted(means.items(), key=lambda pair: (-pair[1][0], pair[0])))
