import pytest

from vlm_gauntlet.leaderboard.rows import Row, headline, rows
from vlm_gauntlet.leaderboard.table import LEGEND, text_table, worst_words

from .factory import fired, outcome

TRANSFER, PGD = "pgd-10-transfer-linf-1-255", "pgd-10-white-box-linf-1-255"
APGD, ADAPTIVE = "apgd-ce-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255"


def only(*outcomes: object) -> Row:
    (row,) = rows(outcomes)  # type: ignore[arg-type]
    return row


@pytest.mark.parametrize("name", ["dead-gradient", "zero-gradient", "robust-above-clean"])
def test_masked_until_an_adaptive_attack_answers(name: str) -> None:
    white_box = outcome("1110", PGD, method="ttc", indicators=[fired(name)])
    masked = only(white_box)
    assert masked.state == "masked" and worst_words(masked) == "masked (75.0)"
    answered = only(white_box, outcome("1000", ADAPTIVE, method="ttc"))
    assert answered.state == "valid" and answered.worst and answered.worst.accuracy.value == 0.25
    assert [f.name for f in answered.flags if f.masking] == [name]


def test_other_indicators_flag_but_do_not_mask() -> None:
    row = only(outcome("1110", PGD, indicators=[fired("silent-success")]))
    assert row.state == "valid" and [f.name for f in row.flags] == ["silent-success"]


def test_a_loss_that_no_attack_raises_masks() -> None:
    flat = fired("loss-not-rising")
    assert only(outcome("1110", PGD, indicators=[flat])).state == "masked"
    rising = outcome("1110", ADAPTIVE, indicators=[flat.model_copy(update={"fired": False})])
    assert only(outcome("1110", PGD, indicators=[flat]), rising).state == "valid"


def test_transfer_alone_never_fills_the_robust_column() -> None:
    row = only(outcome("1111", TRANSFER, method="ttc"))
    assert (row.state, row.worst, worst_words(row)) == ("transfer only", None, "transfer only")
    transfer = row.under("T0")
    assert transfer and transfer.value == 1.0 and row.under("T1") is None


def test_transfer_is_the_papers_number_and_the_worst_case_is_not() -> None:
    hard, easy = outcome("1100", TRANSFER, clean="1011"), outcome("0111", TRANSFER, clean="1011")
    cell = easy.cell.model_copy(update={"protocol": easy.cell.protocol.model_copy(update={"id": "another-transfer"})})
    row = only(easy.model_copy(update={"cell": cell, "key": cell.key}), hard, outcome("1111", PGD, clean="1011"))
    transfer = row.under("T0")
    assert transfer and transfer.value == 0.5  # sample 1 is wrong without attack, and papers count it all the same
    assert row.worst and row.worst.accuracy.value == 0.0


def test_rows_that_cannot_rank_come_last() -> None:
    found = rows(
        [
            outcome("1111", PGD, method="masked", indicators=[fired("dead-gradient")]),
            outcome("1111", TRANSFER, method="transfer"),
            outcome("1000", ADAPTIVE, method="weak"),
            outcome("1100", ADAPTIVE, method="strong"),
        ]
    )
    assert [r.method for r in found] == ["strong", "weak", "masked", "transfer"]


def test_different_samples_are_told_and_not_intersected() -> None:
    row = only(outcome("1110", PGD), outcome("11", APGD))
    assert row.state == "not comparable" and row.worst is None and row.under("T1") is None
    assert "4 samples" in row.problem or "2 samples" in row.problem
    assert "--limit" in row.problem


def test_newest_version_stands_and_the_older_is_counted() -> None:
    row = only(outcome("0000", PGD, code="old", age_days=3), outcome("1111", PGD, code="new"))
    assert row.worst and row.worst.accuracy.value == 1.0 and row.left_out == 1


def test_transfer_that_beats_white_box_is_flagged() -> None:
    row = only(outcome("0" * 20, TRANSFER), outcome("1" * 20, PGD))
    assert "transfer-beats-white-box" in {f.name for f in row.flags}
    quiet = only(outcome("1" * 20, TRANSFER), outcome("0" * 20, PGD))
    assert not quiet.flags


def test_more_budget_that_helps_is_flagged_on_the_larger() -> None:
    found = rows([outcome("0" * 20, PGD), outcome("1" * 20, "pgd-10-white-box-linf-4-255")])
    assert {str(r.threat.eps): [f.name for f in r.flags] for r in found} == {
        "1/255": [],
        "4/255": ["more-budget-more-accuracy"],
    }


def test_test_time_defence_without_adaptive_attack_is_flagged() -> None:
    row = only(outcome("10", PGD, method="ttc"))
    assert row.state == "masked" and [f.name for f in row.masked_by] == ["no-adaptive-attack"]
    assert not only(outcome("10", PGD, method="tecoa")).flags


def test_zero_budget_and_clean_runs_stay_out_of_the_headline() -> None:
    found = rows([outcome("11", "clean"), outcome("11", "pgd-10-white-box-linf-0"), outcome("10", PGD)])
    (block,) = headline(found).values()
    assert [str(r.threat.eps) for r in block] == ["1/255"]
    (alone,) = headline(rows([outcome("11", "clean")])).values()
    assert alone[0].state == "no attack"


def test_seeds_are_rows_of_their_own() -> None:
    assert len(rows([outcome("11", PGD), outcome("11", PGD, seed=1)])) == 2


def test_text_table() -> None:
    found = text_table(
        [
            outcome("1100", PGD),
            outcome("1111", TRANSFER, method="ttc"),
            outcome("1110", PGD, method="ttc", indicators=[fired("dead-gradient")]),
        ]
    )
    assert found.splitlines() == [
        "tiny · shapes · L∞, ε = 1/255",
        "method    rank    n    n to tell next    clean                T0                   T1                 T2    "
        "T3    worst case         beaten by                                  flags",
        "--------  ------  ---  ----------------  -------------------  -------------------  -----------------  ----  "
        "----  -----------------  -----------------------------------------  ---------------------------------",
        "tecoa     1       4    –                 100.0 [51.0, 100.0]  –                    50.0 [15.0, 85.0]  –     "
        "–     50.0 [15.0, 85.0]  pgd-10-white-box-linf-1-255 (leaves 50.0)  –",
        "ttc       –       4    –                 100.0 [51.0, 100.0]  100.0 [51.0, 100.0]  75.0 [30.1, 95.4]  –     "
        "–     masked (75.0)      pgd-10-white-box-linf-1-255 (leaves 75.0)  dead-gradient, no-adaptive-attack",
        "",
        *LEGEND.splitlines(),
    ]
    assert "gauntlet claims direction" in LEGEND


def test_text_table_of_nothing() -> None:
    assert text_table([]).startswith("no outcomes yet")


def test_a_limit_that_every_protocol_shares_is_preferred() -> None:
    row = only(outcome("11", PGD), outcome("10", APGD), outcome("1111", PGD))
    assert row.state == "valid" and row.worst and row.worst.accuracy.n == 2 and row.left_out == 1


def test_who_may_attack_both_may_attack_one_alone() -> None:
    image, text, both = "pgd-10-white-box-linf-1-255", "text-char-1-white-box", "sep-char-1-white-box-linf-1-255"
    elsewhere = outcome("000000", image.replace("1-255", "4-255"))
    older, fewer = (
        outcome("000000", "apgd-ce-white-box-linf-1-255", code="old"),
        outcome("00", "fgsm-white-box-linf-1-255"),
    )
    apart = [elsewhere, older, fewer, outcome("110111", text, method="ttc")]
    found = rows([outcome("011111", image), outcome("101111", text), outcome("111111", both), *apart])
    (row,) = [row for row in found if row.threat.modality == "both"]
    assert [r.threat.modality for r in found] == ["image", "image", "text", "text", "both"]
    assert (row.method, row.threat.norm, row.state, row.clean.n) == ("tecoa", "linf", "valid", 6)
    assert row.worst is not None and row.worst.accuracy.value == 4 / 6
    assert {o.cell.protocol.id for o in row.outcomes} == {image, text, both}
    assert row.left_out == 0
