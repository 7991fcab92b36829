"""Two accuracies compared: how far apart they are, how sure that is, and whether they can be called the same.

Tests and intervals are statsmodels', those of pairs in `paired.py`. A difference is observed minus claimed: a fraction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from vlm_gauntlet.fixtures.errors import GauntletError

from .paired import score_interval, sign_p
from .statistics import LEVEL

ALPHA = 1 - LEVEL
# The largest difference that is still the same result. n decides whether an interval can fit in it, not what it is.
MARGIN = 0.03
ROUNDING_ERROR = 1e-9


@dataclass(frozen=True)
class SeedSpread:
    """How much an accuracy moves when the model is trained again: standard deviation, as a fraction, over trainings."""

    sd: float
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """One comparison.

    Args:
        difference: observed minus claimed; low, high: its 95 % interval.
        p: two-sided p-value of no difference.
        equivalent: whether two one-sided tests at 5 % place it within MARGIN, that is, its 90 % interval lies inside.
        tolerance: half the width of the 95 % interval: what chance alone explains.
        test: what was calculated, in words.
    """

    difference: float
    low: float
    high: float
    p: float
    equivalent: bool
    tolerance: float
    test: str


def _comparison(
    difference: float, interval: tuple[float, float], inner: tuple[float, float], p: float, test: str
) -> Comparison:
    low, high = (float(bound) for bound in interval)
    equivalent = bool(inner[0] > -MARGIN and inner[1] < MARGIN)
    return Comparison(float(difference), low, high, min(1.0, float(p)), equivalent, (high - low) / 2, test)


def two_sample(
    successes: float, n: int, claimed: float, claimed_n: int, *, rounding: float = 0.0, spread: SeedSpread | None = None
) -> Comparison:
    """An observed accuracy against one printed for other samples of the same population.

    Args:
        successes, n: what was observed; fractional where several draws score a sample (conservative, see `wilson`).
        claimed, claimed_n: the printed fraction and its number of samples.
        rounding: half a unit of the last printed digit, as a fraction; the claim has the benefit of it.
        spread: over trainings, where the two sides were trained apart.

    Raises:
        GauntletError: an n below 1, or a fraction outside [0, 1].
    """
    if min(n, claimed_n) < 1 or not 0 <= claimed <= 1 or not 0 <= successes <= n:
        raise GauntletError(
            f"{successes} of {n} against {claimed} of {claimed_n}", expected="fractions in [0, 1], n of at least 1",
            where="two_sample()", fix="give the claim as a fraction, not in percent",
        )  # fmt: skip
    observed = successes / n
    claimed = min(max(observed, claimed - rounding, 0.0), claimed + rounding, 1.0)
    counts = (successes, n, claimed * claimed_n, claimed_n)
    if spread is not None:
        return _retrained(counts, spread)
    outer, inner = (
        confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=a) for a in (ALPHA, 2 * ALPHA)
    )
    p = 1.0  # nobody right, or nobody wrong, on both sides
    if 0 < successes + counts[2] < n + claimed_n and abs(observed - claimed) > ROUNDING_ERROR:
        _, p = test_proportions_2indep(*counts, method="score", compare="diff", return_results=False)
    return _comparison(observed - claimed, outer, inner, p, f"two-sample score test, n = {n} and {claimed_n}")


def _retrained(counts: tuple[float, int, float, int], spread: SeedSpread) -> Comparison:
    """Sampling noise and training noise of both sides together, by Student's t.

    Only the training noise was estimated from few values, so that only its share takes degrees of freedom: Welch 1947
    and Satterthwaite 1946, with infinitely many for the sampling noise. Coverage of the 95 % interval, simulated: 0.92
    to 0.95 from three trainings on; 0.87 with two whose noise outweighs the samples'.
    """
    successes, n, theirs, claimed_n = counts
    difference, pooled = successes / n - theirs / claimed_n, (successes + theirs) / (n + claimed_n)
    sampling, training = pooled * (1 - pooled) * (1 / n + 1 / claimed_n), 2 * spread.sd**2
    error = math.sqrt(sampling + training)
    known = spread.seeds < 2 or training == 0
    degrees = math.inf if known else (sampling + training) ** 2 / (training**2 / (spread.seeds - 1))
    half, inner = (stdtrit(degrees, 1 - a / 2) * error for a in (ALPHA, 2 * ALPHA))
    p = 2 * stdtr(degrees, -abs(difference) / error) if error else float(abs(difference) < ROUNDING_ERROR)
    test = f"n = {n} and {claimed_n}, and {100 * spread.sd:.1f} points between {spread.seeds} trainings"
    return _comparison(
        difference, (difference - half, difference + half), (difference - inner, difference + inner), p, test
    )


def paired(observed: Sequence[float], reference: Sequence[float]) -> Comparison:
    """Two sides on the same samples, which stand for a population: Tango's score interval, McNemar's exact test.

    The interval is unconditional: no flips at all still leave what n samples cannot exclude. Whether one cell came out
    as before is no such question (`mini_verdicts`).

    Args:
        observed, reference: success fractions of the same samples in the same order.

    Raises:
        GauntletError: no samples, or different numbers of them.
    """
    n = len(observed)
    if n == 0 or n != len(reference):
        raise GauntletError(
            f"{n} samples against {len(reference)}", expected="the same samples on both sides", where="paired()",
            fix="compare outcomes with the same sample ids",
        )  # fmt: skip
    moves = [o - r for o, r in zip(observed, reference, strict=True)]
    gains, losses = sum(m for m in moves if m > 0), -sum(m for m in moves if m < 0)
    outer, inner = zip(
        *(bounds.tolist() for bounds in score_interval(gains, losses, n, [ALPHA, 2 * ALPHA])), strict=True
    )
    test = f"McNemar's exact test and Tango's score interval, {sum(map(bool, moves))} of {n} samples flipped"
    p = float(sign_p(gains, losses))
    return _comparison((gains - losses) / n, outer, inner, p, test)


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg q-values over all tests of a night (Benjamini and Hochberg 1995)."""
    if not p_values:
        return []
    return [float(q) for q in multipletests(p_values, method="fdr_bh")[1]]


def samples_needed(accuracy: float, claimed_n: int) -> int | None:
    """How many samples would fit the 90 % interval of no difference in MARGIN; None where no number does."""
    variance = max(accuracy * (1 - accuracy), 1e-4)
    left = (MARGIN / norm.ppf(1 - ALPHA)) ** 2 - variance / claimed_n
    return math.ceil(variance / left) if left > 0 else None
