"""The mean over data sets: its interval covers, its test of two rows does not cry too often."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.leaderboard.means import compared_over, mean_over
from vlm_gauntlet.leaderboard.paired import sign_p
from vlm_gauntlet.leaderboard.statistics import wilson

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize("n", [(24, 24, 24), (24, 100, 500), (200,) * 8])
@pytest.mark.parametrize("accuracy", [(0.02, 0.02, 0.05), (0.1, 0.5, 0.9), (0.4, 0.45, 0.5)])
def test_the_interval_covers(n: tuple[int, ...], accuracy: tuple[float, ...]) -> None:
    """95 % of 500 boards, within what 500 can tell; some less where 24 samples decide at 2 %, as Wilson's does."""
    truth = np.resize(accuracy, len(n))
    drawn = np.random.default_rng(3).binomial(n, truth, (500, len(n)))
    found = [mean_over([wilson(int(k), size) for k, size in zip(ks, n, strict=True)]) for ks in drawn]
    covered = np.mean([one.low <= truth.mean() <= one.high for one in found])
    assert (0.88 if min(n) < 50 else 0.92) <= covered <= 0.99
    assert abs(np.mean([one.value for one in found]) - truth.mean()) < 0.01


@given(st.lists(COUNTS, min_size=1, max_size=6))
def test_bounds_hold_and_one_set_is_itself(counts: list[tuple[int, int]]) -> None:
    parts = [wilson(k, n) for k, n in counts]
    found = mean_over(parts)
    assert 0 <= found.low <= found.value <= found.high <= 1 and found.n == sum(n for _, n in counts)
    assert found.high - found.low <= max(p.high - p.low for p in parts) + 1e-12
    alone = mean_over(parts[:1])
    assert (alone.value, alone.low, alone.high) == pytest.approx((parts[0].value, parts[0].low, parts[0].high))


@pytest.mark.parametrize("sizes", [(30,), (24, 24), (20, 60, 200)])
def test_two_equal_rows_are_seldom_told_apart(sizes: tuple[int, ...]) -> None:
    draws, called = np.random.default_rng(5), 0
    for _ in range(400):
        sets = [(draws.random((2, n)) < 0.3).astype(float) for n in sizes]
        called += compared_over(sets)[0][0, 1] < 0.05
    assert called <= 400 * 0.05 + 2 * (400 * 0.05) ** 0.5


def test_sets_of_one_size_are_mcnemars_test_and_a_real_gap_is_found() -> None:
    draws = np.random.default_rng(7)
    left = [(draws.random((2, 200)) < [[0.5], [0.3]]).astype(float) for _ in range(2)]
    p, sign = compared_over(left)
    gains = sum(int((a > b).sum()) for a, b in left)
    losses = sum(int((a < b).sum()) for a, b in left)
    assert p[0, 1] == pytest.approx(float(sign_p(gains, losses)), rel=0.25) and p[0, 1] < 0.01
    assert (sign[0, 1], sign[1, 0], sign[0, 0]) == (1, -1, 0) and p[0, 0] == p[1, 1] == 1


def test_a_small_set_weighs_as_much_as_a_large_one() -> None:
    """Row 0 is better on the large set and worse on the small one by as much: the means are equal."""
    large, small = np.zeros((2, 100)), np.zeros((2, 10))
    large[0, :50], small[1, :5] = 1, 1
    p, sign = compared_over([large, small])
    assert sign[0, 1] == 0 and p[0, 1] == 1
