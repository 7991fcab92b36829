"""What a control may say with few samples: nothing false, and with many it sees a model that knows nothing."""

import numpy as np
import pytest

from vlm_gauntlet.suites.controls import knows_too_little, survivors_allowed


def accused(drawn: np.ndarray, n: int) -> float:
    """The share of these counts of right answers that the control takes for a model that knows nothing."""
    counts, times = np.unique(drawn, return_counts=True)
    return float(sum(t for c, t in zip(counts, times, strict=True) if knows_too_little(int(c), n)) / len(drawn))


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 24, 100])
@pytest.mark.parametrize("accuracy", [0.4, 0.55, 0.9])
def test_a_model_that_knows_something_is_not_accused(n: int, accuracy: float) -> None:
    drawn = np.random.default_rng(0).binomial(n, accuracy, 4000)
    assert accused(drawn, n) <= 0.015


@pytest.mark.parametrize("n", [24, 48, 100])
def test_guessing_among_ten_classes_is_seen(n: int) -> None:
    drawn = np.random.default_rng(0).binomial(n, 0.1, 2000)
    assert accused(drawn, n) > 0.7


def test_four_samples_say_nothing_against_a_model() -> None:
    assert not any(knows_too_little(found, 4) for found in range(5))
    assert knows_too_little(0, 24) and knows_too_little(3, 24) and not knows_too_little(6, 24)


@pytest.mark.parametrize("n", [4, 8, 16, 24, 100, 500])
def test_an_attack_that_works_is_not_accused(n: int) -> None:
    survive = np.random.default_rng(0).binomial(n, 0.03, 4000)
    assert (survive > survivors_allowed(n)).mean() <= 0.015


@pytest.mark.parametrize(("n", "accuracy"), [(16, 0.5), (24, 0.4), (100, 0.15), (500, 0.08)])
def test_an_attack_that_leaves_too_much_is_seen(n: int, accuracy: float) -> None:
    survive = np.random.default_rng(0).binomial(n, accuracy, 2000)
    assert (survive > survivors_allowed(n)).mean() > 0.95


@pytest.mark.parametrize(("n", "allowed"), [(1, 1), (4, 1), (16, 3), (24, 3), (500, 25)])
def test_survivors(n: int, allowed: int) -> None:
    assert survivors_allowed(n) == allowed
