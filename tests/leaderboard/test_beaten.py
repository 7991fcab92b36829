"""Who beats a row and at what budget; and a budget that had not converged keeps a row from ranking."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.records import Indicator, Outcome
from vlm_gauntlet.leaderboard.beaten import WATCHED, Convergence, beaten, convergence
from vlm_gauntlet.leaderboard.comparison import MARGIN
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.exports import record
from vlm_gauntlet.leaderboard.rows import Row, rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.table import converged_words, worst_words
from vlm_gauntlet.suites.plausible import required_indicators

from .factory import fired, outcome

PGD, ADAPTIVE = "pgd-10-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255"
SHORT, LONG = "ensemble-short-adaptive-linf-1-255", "ensemble-adaptive-linf-1-255"
DIRECT, QUERY = "ensemble-direct-white-box-linf-1-255", "transfer-query-500-black-box-linf-1-255"


def watched(value: float) -> list[Indicator]:
    return [fired(WATCHED).model_copy(update={"value": value, "fired": value > 0})]


def only(*outcomes: Outcome) -> Row:
    (row,) = rows(outcomes)
    return row


def dearer(made: Outcome) -> Outcome:
    return made.model_copy(update={"attack_cost": made.attack_cost.model_copy(update={"forward": 9999})})


def test_the_attack_that_leaves_least_is_named_with_its_budget() -> None:
    row = only(outcome("1110", PGD), outcome("0110", ADAPTIVE), outcome("1111", QUERY))
    assert row.beaten is not None and row.beaten.accuracy.value == 0.5
    assert (row.beaten.protocol, row.beaten.attacker) == (ADAPTIVE, "pgd-20-adaptive")
    assert (row.beaten.knowledge, row.beaten.budget, row.beaten.passes) == ("adaptive", "20 steps", 20)
    told = record(row)
    assert (told["beaten_by"], told["beaten_by_budget"], told["beaten_by_leaves"]) == (ADAPTIVE, "20 steps", 0.5)


def test_of_attacks_that_leave_as_little_the_cheapest_is_named() -> None:
    row = only(dearer(outcome("0110", PGD)), outcome("1001", ADAPTIVE))
    assert row.beaten is not None and row.beaten.protocol == ADAPTIVE
    assert row.worst is not None and row.worst.accuracy.value == 0.0, "together they leave less than either"


def test_nobody_beats_what_no_attack_takes() -> None:
    row = only(outcome("0111", PGD, clean="0111"), outcome("0111", ADAPTIVE, clean="0111"))
    assert row.beaten is None and record(row)["beaten_by"] == "" and record(row)["beaten_by_passes"] is None
    assert beaten([]) is None and only(outcome("11", PGD), outcome("111", ADAPTIVE)).beaten is None


@pytest.mark.parametrize(
    ("protocol", "draws", "words"),
    [
        (PGD, 1, "10 steps"), ("fgsm-white-box-linf-1-255", 1, "1 step"), (ADAPTIVE, 1, "20 steps"),
        (ADAPTIVE, 5, "20 steps × 4 draws"), ("pgd-20-restarts-5-white-box-linf-1-255", 1, "20 steps × 5 restarts"),
        (SHORT, 5, "5 steps × 3 doubling rounds × 4 draws"), (QUERY, 1, "20 steps + 500 queries"),
        ("square-100-black-box-linf-1-255", 5, "100 queries"),
    ],
)  # fmt: skip
def test_budgets_in_words(protocol: str, draws: int, words: str) -> None:
    found = beaten([outcome("00", protocol, draws=draws)])
    assert found is not None and found.budget == words


def test_of_a_randomised_defence_the_draws_that_chose_nothing_count() -> None:
    made = outcome("00", ADAPTIVE, draws=5)
    fresh = tuple(replace(s, fresh=3) for s in made.samples)
    found = beaten([made.model_copy(update={"samples": fresh, "confirming": 30})])
    assert found is not None and found.accuracy.value == pytest.approx(0.1)


def test_a_budget_that_had_not_converged_leaves_an_upper_bound() -> None:
    row = only(outcome("1110", SHORT, indicators=watched(0.5)))
    assert row.state == "upper bound" and row.missing == (
        f"the budget of {SHORT} had not converged: up to 50.0 points more may fall",
    )
    assert row.missing[0] in worst_words(row) and converged_words(row) == "not converged"
    assert record(row)["convergence"] == "not converged" and record(row)["open"] == 0.5
    assert only(outcome("1110", SHORT, indicators=watched(0.0))).state == "valid"


def test_what_nobody_watched_is_not_tested_and_ranks() -> None:
    row = only(outcome("1110", ADAPTIVE))
    assert (row.state, row.convergence, converged_words(row)) == ("valid", None, "convergence not tested")
    outside = outcome("1110", SHORT, indicators=watched(0.5))
    named = outside.cell.protocol.attack.model_copy(update={"name": "mine.py:Mine"})
    cell = outside.cell.model_copy(update={"protocol": outside.cell.protocol.model_copy(update={"attack": named})})
    assert convergence([outside.model_copy(update={"cell": cell})], 0.75) is None


@pytest.mark.parametrize(("share", "state"), [(0.25, "valid"), (0.251, "upper bound")])
def test_one_sample_of_four_may_be_open(share: float, state: str) -> None:
    assert only(outcome("1110", SHORT, indicators=watched(share))).state == state


def test_the_strongest_attack_that_watches_decides() -> None:
    """Who knows more, then who may take more steps: a masked gradient converges at once, and means nothing."""
    short, long = outcome("1110", SHORT, indicators=watched(0.5)), outcome("1110", LONG, indicators=watched(0.0))
    assert only(short, long).convergence == convergence([long], 0.75)
    direct = outcome("1110", DIRECT, indicators=watched(0.0))
    found = only(direct, short).convergence
    assert found is not None and (found.protocol, found.reached) == (SHORT, False)


def test_what_fell_to_others_is_not_open() -> None:
    short = outcome("1111", SHORT, indicators=watched(0.5))
    nothing = only(short, outcome("0000", PGD))
    assert nothing.state == "valid" and nothing.convergence is not None and nothing.convergence.open == 0.0
    one = only(short, outcome("1000", PGD))
    assert one.convergence is not None and one.convergence.open == 0.25


def test_of_many_samples_as_much_may_be_open_as_is_still_the_same_result() -> None:
    assert Convergence("one", MARGIN, 500).reached and not Convergence("one", MARGIN + 0.001, 500).reached


@settings(max_examples=40, deadline=None)
@given(value=st.floats(0, 1), left=st.floats(0, 1))
def test_no_more_is_open_than_stands(value: float, left: float) -> None:
    found = convergence([outcome("1110", SHORT, indicators=watched(value))], left)
    assert found is not None and found.open <= min(value, left) and found.reached == (min(value, left) <= 0.25)


def test_a_row_of_unknown_make_names_nobody() -> None:
    (row,) = Evidence(unranked=[outcome("1110", SHORT, indicators=watched(0.5))]).rows()
    assert (row.state, row.beaten, row.convergence) == ("unknown here", None, None)


def test_a_run_that_watches_its_budget_always_tells() -> None:
    """A forger who removes the indicator is noticed."""
    assert WATCHED in required_indicators(outcome("10", SHORT)) and WATCHED in required_indicators(
        outcome("10", DIRECT)
    )
    assert WATCHED not in required_indicators(outcome("10", ADAPTIVE))


def test_the_pages_tell(tmp_path: Path) -> None:
    open_row, tested = outcome("1110", SHORT, indicators=watched(0.5)), outcome("0000", ADAPTIVE, method="rn")
    site = build_site([open_row, tested, outcome("1110", PGD, method="aom")], tmp_path / "site").parent
    front = (site / "datasets" / "shapes.html").read_text()
    assert "✕ no" in front and "50.0 open" in front and "✓ yes" in front and "· not tested" in front
    assert "ensemble-short-adaptive</a>" in front and "5 steps × 3 doubling rounds, 20 passes; leaves 75.0" in front
    page = (site / "cells" / "tecoa" / "tiny" / "shapes.html").read_text()
    assert f"Beaten by <strong>{SHORT}</strong> (adaptive, 5 steps" in page
    assert f"Not converged: by {SHORT}, up to 50.0 points more may fall" in page
    assert "Nothing is left" in (site / "cells" / "rn" / "tiny" / "shapes.html").read_text()
    assert "Convergence not tested" in (site / "cells" / "aom" / "tiny" / "shapes.html").read_text()
