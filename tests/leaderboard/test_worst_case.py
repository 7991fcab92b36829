from dataclasses import replace

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.worst_case import NEVER_BROKEN, WRONG_ANYWAY, worst_case

from .factory import outcome

TRANSFER, PGD = "pgd-10-transfer-linf-1-255", "pgd-10-white-box-linf-1-255"
APGD, ADAPTIVE = "apgd-ce-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255"


def test_by_hand() -> None:
    clean = "111110"
    found = worst_case(
        [
            outcome("011000", ADAPTIVE, clean=clean),
            outcome("011110", TRANSFER, clean=clean),
            outcome("111010", PGD, clean=clean),
        ]
    )
    assert found.accuracy.value == pytest.approx(2 / 6)
    # Sample 0 falls to transfer already; 3 to PGD before the adaptive attack; 4 to the adaptive one alone.
    assert found.broken_by == {TRANSFER: 1, PGD: 1, ADAPTIVE: 1, NEVER_BROKEN: 2, WRONG_ANYWAY: 1}


def test_several_draws_take_the_minimum_of_counts() -> None:
    found = worst_case([outcome("53", PGD, draws=5), outcome("42", APGD, draws=5)])
    assert found.accuracy.value == pytest.approx((4 + 2) / 10)
    assert found.broken_by == {APGD: 2}


def test_counts_add_up_to_n() -> None:
    found = worst_case([outcome("0101100", PGD, clean="0111111"), outcome("1001101", APGD, clean="0111111")])
    assert sum(found.broken_by.values()) == found.accuracy.n == 7


def test_different_samples_are_an_error_in_words() -> None:
    with pytest.raises(GauntletError, match=r"3 samples and .* has 2, 2 in common"):
        worst_case([outcome("111", APGD), outcome("11", PGD)])
    with pytest.raises(GauntletError, match="0 in common"):
        worst_case([outcome("11", APGD), outcome("11", PGD, ids=["x", "y"])])


def test_nothing_has_no_worst_case() -> None:
    with pytest.raises(GauntletError, match="no outcomes"):
        worst_case([])


def test_of_a_randomised_defence_the_attack_is_chosen_on_some_draws_and_scored_on_others() -> None:
    """Two attacks of equal strength: the least of two noisy counts is biased down, the fresh draws are not."""

    def drawn(bits: str, fresh: str, protocol: str) -> Outcome:
        made = outcome(bits, protocol, draws=5, clean="55")
        samples = tuple(replace(s, fresh=10 * int(f)) for s, f in zip(made.samples, fresh, strict=True))
        return made.model_copy(update={"samples": samples, "confirming": 30})

    first = drawn("14", "23", "pgd-10-white-box-linf-1-255")
    second = drawn("32", "11", "pgd-20-adaptive-linf-1-255")
    found = worst_case([first, second])
    # The first sample is chosen from the first attack (1 of 5) and the second from the second (2 of 5).
    assert found.accuracy.value == pytest.approx((20 / 30 + 10 / 30) / 2)
    tied = drawn("34", "30", "pgd-10-white-box-linf-1-255")
    assert worst_case([tied, drawn("34", "12", "pgd-20-adaptive-linf-1-255")]).accuracy.value == pytest.approx(0.5)
