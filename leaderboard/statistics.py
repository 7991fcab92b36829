"""Numbers with their uncertainty: accuracies with Wilson intervals, and the paired sign test."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import bdtrc
from statsmodels.stats.proportion import proportion_confint

from vlm_gauntlet.fixtures.errors import GauntletError

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A fraction in [0, 1] with its 95 % Wilson interval; `n` is the number of samples, not of draws."""

    value: float
    low: float
    high: float
    n: int


@lru_cache(maxsize=65536)
def wilson(successes: float, n: int) -> Estimate:
    """The Wilson score interval (Wilson 1927), by statsmodels.

    Args:
        successes: in [0, n]; fractional where a sample is scored by several draws. The mean of draws varies
            less than one draw does, so that the interval is then conservative.
        n: number of samples, at least 1.

    Raises:
        GauntletError: n < 1, or successes outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise GauntletError(
            f"{successes} successes of {n}", expected="0 <= successes <= n and n >= 1", where="wilson()",
            fix="count successes and samples over the same sample ids",
        )  # fmt: skip
    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method="wilson")
    value = successes / n
    # Rounding may put the bound a hair beyond the value at 0 and n.
    return Estimate(value, min(max(float(low), 0.0), value), max(min(float(high), 1.0), value), n)


def clopper_pearson(successes: int, n: int) -> Estimate:
    """The exact interval (Clopper and Pearson 1934), which never covers less than it says."""
    low, high = proportion_confint(successes, n, alpha=1 - LEVEL, method="beta")
    return Estimate(successes / n, float(low), float(high), n)


def mean_of(fractions: Sequence[float]) -> Estimate:
    """Mean of per-sample success fractions, each in [0, 1], with interval."""
    return wilson(min(sum(fractions), float(len(fractions))), len(fractions))


def sign_test(lower: Sequence[float], higher: Sequence[float]) -> float:
    """One-sided p-value that `higher` wins more samples than `lower` only by chance (paired, exact, ties dropped)."""
    wins = sum(h > low for low, h in zip(lower, higher, strict=True))
    losses = sum(h < low for low, h in zip(lower, higher, strict=True))
    return float(bdtrc(wins - 1, wins + losses, 0.5)) if wins else 1.0
