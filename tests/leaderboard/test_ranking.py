"""A row ranks only where it holds a gradient that predicts, a search by queries, transferred images, and a replay."""

import pytest

from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.records import Indicator, Outcome
from vlm_gauntlet.leaderboard.ranking import NEEDED, kinds, missing
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.table import worst_words

from .factory import fired, outcome

ADAPTIVE = "pgd-20-adaptive-linf-16-255"
QUERY = "transfer-query-500-black-box-linf-16-255"


def quiet(name: str) -> Indicator:
    return fired(name).model_copy(update={"value": 0.0, "fired": False})


SOUND = (quiet("gradient-misleads"), quiet("unstable-replay"))


def with_attack(made: Outcome, **parameters: object) -> Outcome:
    cell = made.cell.model_copy(update={"protocol": varied(made.cell.protocol, **parameters)})
    return made.model_copy(update={"cell": cell, "key": cell.key})


def test_a_row_with_all_kinds_ranks() -> None:
    (row,) = rows([outcome("1110", ADAPTIVE, indicators=SOUND), outcome("1111", QUERY)])
    assert (row.state, row.missing) == ("valid", ())


@pytest.mark.parametrize(
    ("held", "lacking"),
    [
        ([outcome("1110", ADAPTIVE, indicators=SOUND)], {"query", "transfer"}),
        ([outcome("1110", ADAPTIVE, indicators=SOUND[1:]), outcome("1111", QUERY)], {"gradient"}),
        ([outcome("1110", ADAPTIVE, indicators=SOUND[:1]), outcome("1111", QUERY)], {"replay"}),
        ([outcome("1110", "pgd-10-white-box-linf-16-255", indicators=SOUND), outcome("1111", QUERY)], {"gradient"}),
        ([outcome("1110", ADAPTIVE, indicators=SOUND), outcome("1111", "square-1000-black-box-linf-16-255")],
         {"transfer"}),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_and_the_row_does_not_rank(held: list[Outcome], lacking: set[str]) -> None:
    (row,) = rows(held)
    assert row.state == "upper bound" and set(row.missing) == {NEEDED[kind] for kind in lacking}
    assert (
        row.worst
        and worst_words(row).startswith("at most ")
        and all(words in worst_words(row) for words in row.missing)
    )


@pytest.mark.parametrize("name", ["gradient-misleads", "zero-gradient", "dead-gradient", "nan-gradient"])
def test_a_gradient_that_says_nothing_is_no_evidence(name: str) -> None:
    told = [fired(name), *(i for i in SOUND if i.name != name)]
    assert "gradient" not in kinds(outcome("1110", ADAPTIVE, indicators=told))
    assert "gradient" in kinds(outcome("1110", ADAPTIVE, indicators=SOUND))


def test_budgets_count() -> None:
    query = outcome("1111", QUERY)
    assert kinds(query) == {"query", "transfer"}
    assert kinds(with_attack(query, queries=499)) == {"transfer"}
    square = outcome("1111", "square-1000-black-box-linf-16-255")
    assert kinds(with_attack(square, queries=500)) == {"query"} and kinds(with_attack(square, queries=499)) == set()
    adaptive = outcome("1110", ADAPTIVE, indicators=SOUND)
    assert "gradient" in kinds(with_attack(adaptive, steps=10, restarts=2))
    assert "gradient" not in kinds(with_attack(adaptive, steps=19))


def test_an_attack_from_outside_is_no_evidence() -> None:
    query = outcome("1111", QUERY)
    other = query.cell.protocol.attack.model_copy(update={"name": "mine.py:Mine"})
    cell = query.cell.model_copy(update={"protocol": query.cell.protocol.model_copy(update={"attack": other})})
    assert kinds(query.model_copy(update={"cell": cell})) == set()


def test_text_is_attacked_by_search_and_a_budget_of_zero_by_nothing() -> None:
    (text,) = rows([outcome("1110", "text-char-1-adaptive")])
    (zero,) = rows([outcome("1111", "pgd-10-white-box-linf-0")])
    assert text.state == zero.state == "valid"
    assert protocol("pgd-10-white-box-linf-0").threat.harmless
    assert len(missing([])) == len(NEEDED)
