"""Pairs that stand for a population: coverage, size and power by simulation, at the sizes of the tiers.

Simulated shares are held to their nominal ones up to the binomial error of the simulation, at one in a thousand.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from vlm_gauntlet.leaderboard.comparison import ALPHA, MARGIN, paired
from vlm_gauntlet.leaderboard.paired import needed_for_power, score_interval, sign_p

RUNS = 2000
Counts = NDArray[np.int64]


def at_least(share: float, runs: int = RUNS) -> float:
    """The least share that a simulation of a true `share` shows, but for one in a thousand."""
    return float(binom.ppf(0.001, runs, share)) / runs


def at_most(share: float, runs: int = RUNS) -> float:
    return float(binom.ppf(0.999, runs, share)) / runs


def flips(n: int, difference: float, gained: float, seed: int = 0) -> tuple[Counts, Counts]:
    """Gains and losses of RUNS pairs of runs: `gained` is the share of samples that only the first side has."""
    lost = gained - difference
    drawn = np.random.default_rng(seed).multinomial(n, [gained, lost, 1 - gained - lost], RUNS)
    return drawn[:, 0], drawn[:, 1]


@pytest.mark.parametrize("gained", [0.0, 0.01, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("difference", [0.0, -0.05])
@pytest.mark.parametrize("n", [8, 24, 200])
def test_the_interval_covers_whatever_flips(n: int, difference: float, gained: float) -> None:
    """Where nothing flips as well: there an interval that knows only the flips covers 0.34 at n = 8 and -5 points."""
    gains, losses = flips(n, difference, gained)
    low, high = score_interval(gains, losses, n, ALPHA)
    assert np.mean((low <= difference) & (difference <= high)) >= at_least(1 - ALPHA)
    low, high = score_interval(gains, losses, n, 2 * ALPHA)
    assert np.mean((low <= difference) & (difference <= high)) >= at_least(1 - 2 * ALPHA)


@pytest.mark.parametrize("n", [8, 24, 200, 1000])
@pytest.mark.parametrize("gained", [0.0, 0.01, 0.1])
def test_five_points_below_are_not_called_equivalent(n: int, gained: float) -> None:
    gains, losses = flips(n, -0.05, gained)
    low, high = score_interval(gains, losses, n, 2 * ALPHA)
    assert np.mean((low > -MARGIN) & (high < MARGIN)) <= at_most(ALPHA)


@pytest.mark.parametrize("gained", [0.0, 0.02, 0.1])
def test_the_size_of_equivalence_at_the_margin(gained: float) -> None:
    gains, losses = flips(1000, -MARGIN, gained)
    low, high = score_interval(gains, losses, 1000, 2 * ALPHA)
    assert np.mean((low > -MARGIN) & (high < MARGIN)) <= at_most(ALPHA)


def test_equivalence_is_found_where_samples_are_many_or_flips_few() -> None:
    assert not paired([1.0] * 24, [1.0] * 24).equivalent, "24 samples without a flip exclude no five points"
    assert paired([1.0] * 100, [1.0] * 100).equivalent
    gains, losses = flips(4000, 0.0, 0.05)
    low, high = score_interval(gains, losses, 4000, 2 * ALPHA)
    assert np.mean((low > -MARGIN) & (high < MARGIN)) >= 0.99


@pytest.mark.parametrize("n", [8, 24, 200])
@pytest.mark.parametrize("gained", [0.0, 0.02, 0.1, 0.4])
def test_no_difference_is_called_one_no_oftener_than_the_level_says(n: int, gained: float) -> None:
    gains, losses = flips(n, 0.0, gained)
    assert np.mean(sign_p(gains, losses) < ALPHA) <= at_most(ALPHA)


@pytest.mark.parametrize("n", [8, 24, 200])
def test_means_of_draws_are_judged_carefully(n: int) -> None:
    """A defence that is right in 0.8 of its draws everywhere, and one always right on 0.8 of the samples: equal means.

    A sign test by samples calls the second better, as it wins wherever the first loses a draw.
    """
    draws = np.random.default_rng(3)
    random = draws.binomial(5, 0.8, (RUNS, n)) / 5
    fixed = draws.binomial(1, 0.8, (RUNS, n))
    moves = fixed - random
    gains, losses = np.maximum(moves, 0).sum(1), np.maximum(-moves, 0).sum(1)
    assert np.mean(sign_p(gains, losses) < ALPHA) <= at_most(ALPHA)
    low, high = score_interval(gains, losses, n, ALPHA)
    assert np.mean((low <= 0) & (high >= 0)) >= at_least(1 - ALPHA)
    if n == 200:
        by_samples = sign_p((moves > 0).sum(1), (moves < 0).sum(1))
        assert np.mean(by_samples < ALPHA) > 0.5, "the planted fault is none"


@pytest.mark.parametrize(("difference", "share"), [(0.2, 0.46), (0.1, 0.46), (0.05, 0.3), (0.1, 0.15)])
def test_the_samples_needed_give_the_power(difference: float, share: float) -> None:
    """80 % for the score test that Connor's formula is of, good to two points; the exact one has a little less."""
    n = needed_for_power(difference, share)
    assert n is not None
    gains, losses = flips(n, difference, (share + difference) / 2)
    score = np.abs(gains - losses) / np.sqrt(np.maximum(gains + losses, 1)) > 1.96
    exact = sign_p(gains, losses) < ALPHA
    assert at_least(0.78) <= np.mean(score) <= at_most(0.82)
    assert at_least(0.68) <= np.mean(exact) <= np.mean(score)


def test_samples_needed_golden() -> None:
    """By hand: flips 0.5, difference 0.2: ((1.960 * 0.7071 + 0.8416 * sqrt(0.46)) / 0.2)² = 95.7."""
    assert needed_for_power(0.2, 0.5) == needed_for_power(-0.2, 0.5) == 96
    assert needed_for_power(0.0, 0.5) is None
    assert needed_for_power(0.2, 0.1) == needed_for_power(0.2, 0.2), "as many flip as the difference says, at least"


@pytest.mark.parametrize("n", [8, 24, 200])
def test_without_flips_the_bound_is_known(n: int) -> None:
    """Of Tango's equation with no flips there remains n d² = z² d (1 - d)."""
    z2 = 1.959963984540054**2
    low, high = score_interval(0, 0, n, ALPHA)
    assert float(high) == pytest.approx(z2 / (n + z2)) == -float(low)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
@settings(deadline=None)
def test_the_interval_solves_the_score_equation(gains: int, losses: int, ties: int) -> None:
    """At each bound, (gains - losses - n d) / its restricted standard error is z, by a maximum found numerically."""
    n = gains + losses + ties
    if n == 0:
        return
    low, high = map(float, score_interval(gains, losses, n, ALPHA))
    assert -1 <= low <= (gains - losses) / n <= high <= 1
    for d in (low, high):
        if abs(d) > 1 - 1e-6:
            continue
        grid = np.linspace(max(0.0, -d), (1 - d) / 2, 20001)[1:-1]  # share lost; gained is that plus d
        likelihood = gains * np.log(grid + d) + losses * np.log(grid) + ties * np.log1p(-2 * grid - d)
        lost = grid[np.argmax(likelihood)]
        error = np.sqrt(n * (2 * lost + d * (1 - d)))
        assert abs(gains - losses - n * d) / error == pytest.approx(1.96, rel=0.02)


@given(st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_whole_flips_are_mcnemars_exact_test(gains: int, losses: int) -> None:
    wanted = binomtest(gains, gains + losses).pvalue if gains + losses else 1.0
    assert float(sign_p(gains, losses)) == pytest.approx(wanted)
