"""A row holds outcomes of one code of the method, whatever the code of their attacks; of an attack, the newest."""

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.rows import rows

from .factory import outcome

PGD, APGD = "pgd-10-white-box-linf-1-255", "aa-tecoa-white-box-linf-1-255"


def by(attack: str, made: Outcome) -> Outcome:
    cell = made.cell.model_copy(update={"attack_digest": attack})
    return made.model_copy(update={"cell": cell, "key": cell.key})


def test_outcomes_of_several_attacks_are_one_row() -> None:
    (row,) = rows([by("pgd", outcome("1100", PGD)), by("apgd", outcome("1000", APGD, age_days=2))])
    assert len(row.outcomes) == 2 and row.left_out == 0


def test_the_newest_code_of_an_attack_counts() -> None:
    (row,) = rows([by("old", outcome("1100", PGD, age_days=2)), by("new", outcome("1000", PGD))])
    assert [o.cell.attack_digest for o in row.outcomes] == ["new"] and row.left_out == 1


def test_other_code_of_the_method_is_left_out() -> None:
    (row,) = rows([by("pgd", outcome("1100", PGD)), by("apgd", outcome("1000", APGD, code="before", age_days=2))])
    assert [o.cell.protocol.id for o in row.outcomes] == [PGD] and row.left_out == 1
