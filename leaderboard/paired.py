"""Two defences, or two runs, on the same samples: how far apart they are in the population that the samples stand for.

Everything takes arrays, so that a table of many pairs is one call. `gains` is the sum of what the first side has more,
sample by sample, and `losses` of what it has less: whole numbers where each sample is scored once. Where several draws
score a sample they are fractions, whose sum varies less than as many whole flips would, so that what follows is then
conservative, as `statistics.wilson` is.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, ndtri

HALVINGS = 50  # of an interval of length 2: beyond the last bit of a float


def score_interval(
    gains: ArrayLike, losses: ArrayLike, n: ArrayLike, alpha: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The score interval of a paired difference, which no flips make narrow but not empty: z² / (n + z²) to each side.

    Args:
        gains, losses: as above; together at most n. All arguments broadcast.
        n: number of samples, at least 1.
        alpha: one minus the level, 0.05 for 95 %.

    Returns:
        Lower and upper bound of the difference (gains - losses) / n, as a fraction in [-1, 1], of the arguments' shape.

    Source: Tango 1998, Statistics in Medicine 17, 891-908, equations 8 and 11 (the nuisance parameter at its
        restricted maximum), solved by bisection.
    """
    more, less, size, level = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (gains, losses, n, alpha)))
    bounds = _lower(np.stack([more, less]), np.stack([less, more]), size, ndtri(1 - level / 2))
    return bounds[0], -bounds[1]


def _lower(
    more: NDArray[np.float64], less: NDArray[np.float64], n: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.float64]:
    low, high = np.full(more.shape, -1.0), (more - less) / n
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        slope, constant = (2 * n - more + less) * middle - more - less, -less * middle * (1 - middle)
        root = np.sqrt(np.maximum(slope * slope - 8 * n * constant, 0.0))
        lost = (root - slope) / (4 * n)  # share of samples lost, were `middle` the true difference
        error = np.sqrt(np.maximum(n * (2 * lost + middle * (1 - middle)), 0.0))
        below = more - less - n * middle > z * error
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def sign_p(gains: ArrayLike, losses: ArrayLike) -> NDArray[np.float64]:
    """Two-sided p-value of no difference: McNemar's exact test (1947), by the incomplete beta function.

    Only flips count. Fractions enter the binomial law as they are (its continuation between whole numbers).
    """
    more, less = (np.asarray(a, dtype=float) for a in (gains, losses))
    flips, larger = more + less, np.maximum(more, less)
    tail = betainc(np.maximum(larger, 1e-300), flips - larger + 1, 0.5)
    return np.where(flips > 0, np.minimum(1.0, 2 * tail), 1.0)


def needed_for_power(difference: float, flips: float, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """How many samples would show a paired difference; None for no difference.

    Args:
        difference: the true one, as a fraction.
        flips: share of samples that differ between the two sides, at least |difference|.

    Source: Connor 1987, Biometrics 43, 207-211: sample size of McNemar's score test; the exact one, which is used here,
        has up to a tenth less power with it where flips are few.
    """
    if not difference:
        return None
    flips = max(flips, abs(difference))
    z, reach = ndtri(1 - alpha / 2), ndtri(power)
    root = z * np.sqrt(flips) + reach * np.sqrt(flips - difference**2)
    return int(np.ceil((root / difference) ** 2))
