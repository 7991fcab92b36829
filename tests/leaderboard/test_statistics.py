import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.statistics import mean_of, sign_test, wilson


@given(st.integers(1, 5000), st.floats(0, 1))
def test_interval_holds_the_value_and_stays_inside(n: int, share: float) -> None:
    found = wilson(share * n, n)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.integers(1, 500), st.floats(0, 1), st.integers(2, 50))
def test_interval_narrows_with_n(n: int, share: float, more: int) -> None:
    few, many = wilson(share * n, n), wilson(share * n * more, n * more)
    assert many.high - many.low < few.high - few.low


def test_interval_is_the_known_one() -> None:
    found = wilson(50, 1000)  # statsmodels' method against the closed form
    z, p, n = 1.959963984540054, 0.05, 1000
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    assert found.high - found.low == pytest.approx(2 * half)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_interval_covers(p: float) -> None:
    draws = np.random.default_rng(0).binomial(200, p, size=4000)
    covered = [found.low <= p <= found.high for found in (wilson(float(k), 200) for k in draws)]
    assert 0.93 < np.mean(covered) < 0.975


def test_fractional_successes_of_several_draws() -> None:
    assert mean_of([0.2, 0.4, 1.0]).value == pytest.approx(1.6 / 3)
    assert mean_of([0.2, 0.4, 1.0]).n == 3


@pytest.mark.parametrize(("successes", "n"), [(1.0, 0), (-1.0, 3), (4.0, 3)])
def test_impossible_counts_are_refused(successes: float, n: int) -> None:
    with pytest.raises(GauntletError, match="successes"):
        wilson(successes, n)


def test_sign_test_is_exact() -> None:
    assert sign_test([0, 0, 0, 0, 1], [1, 1, 1, 1, 1]) == pytest.approx(1 / 16)
    assert sign_test([1, 1], [0, 0]) == 1.0
    assert sign_test([1, 0], [1, 0]) == 1.0
