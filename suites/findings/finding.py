"""A statement of a paper as one number, with the side of a bound on which it must lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from .scene import Scene

Judgement = Literal["holds", "does not hold here", "cannot be told"]
LEVEL = 0.95
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval, over n samples (or pairs, or methods)."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Finding:
    """One statement.

    Args:
        id: name on the command line and in links.
        says: the statement, in words.
        source: who states it.
        quantity: what the number is, in words.
        bound: the number must lie beyond it ...
        above: ... above it, or below.
        measure: computes the number in a scene; None where it cannot be measured here.
        why_not: then the reason.
    """

    id: str
    says: str
    source: str
    quantity: str
    bound: float
    above: bool
    measure: Callable[[Scene], Figure] | None = None
    why_not: str = ""

    @property
    def rule(self) -> str:
        """When it holds, in words."""
        return f"{'above' if self.above else 'below'} {self.bound:g}"

    def judged(self, figure: Figure) -> Judgement:
        """Whether the whole interval lies on the stated side, on the other, or on both."""
        if figure.low > self.bound or figure.high < self.bound:
            return "holds" if (figure.low > self.bound) == self.above else "does not hold here"
        return "cannot be told"


def share(hits: Sequence[bool]) -> Figure:
    """Fraction of samples that are as stated, with its Wilson interval."""
    found = stats.binomtest(sum(map(bool, hits)), len(hits)).proportion_ci(LEVEL, "wilson")
    return Figure(sum(map(bool, hits)) / len(hits), float(found.low), float(found.high), len(hits))


def mean(values: Sequence[float]) -> Figure:
    """Mean over samples of values in [-1, 1], with Student's interval; of equal values, by the rule of three."""
    middle, n = float(np.mean(values)), len(values)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / n**0.5)
    reach = reach or 3 / n  # no sample that differs is no proof that none does
    return Figure(middle, middle - reach, middle + reach, n)


def rank_correlation(left: Sequence[float], right: Sequence[float], *, seed: int = 0) -> Figure:
    """Spearman's correlation of pairs, with a percentile bootstrap over them."""
    pairs = np.column_stack([left, right])
    generator = np.random.default_rng(seed)
    drawn = (pairs[generator.integers(len(pairs), size=len(pairs))] for _ in range(RESAMPLES))
    found = [rho for sample in drawn if np.isfinite(rho := _spearman(sample))]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(_spearman(pairs), float(low), float(high), len(pairs))


def _spearman(pairs: np.ndarray) -> float:
    ranks = stats.rankdata(pairs, axis=0)
    if (ranks == ranks[0]).all(0).any():  # one side says nothing
        return float("nan")
    return float(np.corrcoef(ranks.T)[0, 1])
