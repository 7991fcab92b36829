"""The mean over data sets, as papers average, with its interval: every data set weighs the same, whatever its size."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from .statistics import Estimate


def mean_over(parts: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of accuracies of different data sets, with a 95 % interval for these data sets.

    The interval speaks of other samples of the same data sets, not of other data sets: those are chosen, not drawn.
    Limits are combined from the Wilson limits of each set by the method of variance estimates recovery, which keeps
    their skew near 0 and 1, where adding variances would not. Simulated coverage: 0.93 to 0.985; 0.91 where a set
    of 24 samples at 2 % decides.

    Args:
        parts: one a data set, each with its own interval and n; at least one.

    Returns:
        The mean, with `n` the samples of all sets together.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10; Zou and Donner 2008, Statistics in Medicine
        27, 1693-1702, equation 3, for a linear function of any number of proportions.
    """
    value = math.fsum(part.value for part in parts) / len(parts)
    down, up = (
        math.sqrt(math.fsum((part.value - bound) ** 2 for part, bound in zip(parts, bounds, strict=True))) / len(parts)
        for bounds in ([part.low for part in parts], [part.high for part in parts])
    )
    return Estimate(value, max(value - down, 0.0), min(value + up, 1.0), sum(part.n for part in parts))


def compared_over(sets: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All pairs of rows, by their means over data sets: two-sided p-values of no difference, and signs.

    Within a data set the rows are compared sample by sample. The weighted sum of flips is held against the spread that
    it has where each flip goes either way alike: McNemar's test with the continuity correction of Edwards 1948 for
    data sets of one size, its stratified form else.

    Args:
        sets: for each data set what is left of every sample, [rows, n] in [0, 1]; rows in the same order.

    Returns:
        p and the sign of row i minus row j; both [rows, rows].
    """
    weights = [1 / (len(sets) * left.shape[1]) for left in sets]
    rows = len(sets[0])
    gap, spread = np.zeros((rows, rows)), np.zeros((rows, rows))
    for weight, left in zip(weights, sets, strict=True):
        total, squares = left.sum(1), (left * left).sum(1)
        gap += weight * (total[:, None] - total[None, :])
        spread += weight**2 * np.maximum(squares[:, None] + squares[None, :] - 2 * left @ left.T, 0.0)
    gap[np.abs(gap) < 1e-12] = 0.0
    beyond = np.maximum(np.abs(gap) - max(weights), 0.0)
    z = np.divide(beyond, np.sqrt(spread), out=np.zeros_like(gap), where=spread > 1e-15)
    return 2 * ndtr(-z), np.sign(gap)
