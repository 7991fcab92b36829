"""What is claimed of a line, what claims without a verdict lack, tables as printed, and how to cite."""

from collections import Counter

import pytest

from vlm_gauntlet.leaderboard.bibtex import of_cell, of_paper
from vlm_gauntlet.leaderboard.claimed import Claimed, ClaimIndex, is_own
from vlm_gauntlet.leaderboard.method_page import switched
from vlm_gauntlet.leaderboard.missing import OTHER, lacking, lacks
from vlm_gauntlet.leaderboard.overall import Overall, boards
from vlm_gauntlet.leaderboard.paper_pages import paths, printed
from vlm_gauntlet.leaderboard.rank_groups import all_remaining
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.verdicts import Verdict, verdicts
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.methods.registry import methods

from .factory import outcome
from .test_verdicts import CLIP, claim

KNOWING = "pgd-20-adaptive-linf-1-255"
ATTACKED = {"method": "ttc", "protocol": "ttc-pgd-10-linf-1-255"}


def line(*datasets: str, method: str = "ttc", bits: str = "1100") -> Overall:
    found = rows([outcome(bits, method=method, backbone=CLIP, dataset=d) for d in datasets])
    (board,) = boards(found, all_remaining(found))
    return board.lines[0]


def claimed(about: Overall, *known: Claim) -> Claimed | None:
    return ClaimIndex(known, {c.id: Verdict(c.id, "not run", "") for c in known}).claimed(about)


def test_the_own_papers_number_comes_before_higher_ones_of_others() -> None:
    own = claim("60", source="ttc", row="own", **ATTACKED)
    higher, lower = (claim(v, row=v, **ATTACKED) for v in ("90", "50"))
    found = claimed(line("cifar10"), own, higher, lower)
    assert found and found.claims == (own,) and found.own and found.mean == pytest.approx(0.6)
    assert found.drop == pytest.approx(0.1)
    others = claimed(line("cifar10"), lower, higher)
    assert others and others.claims == (higher,) and not others.own
    assert is_own(own) and not is_own(higher)


@pytest.mark.parametrize("fields", [
    {"protocol": "ttc-clean"}, {"backbone": "ViT-L/14"}, {"dataset": "cifar100"},
    {"variant": "as_coded"}, {"method": "tecoa"}, {"metric": "attack success"},
])  # fmt: skip
def test_what_speaks_of_something_else_is_not_claimed_of_it(fields: dict[str, str]) -> None:
    assert claimed(line("cifar10"), claim("60", **ATTACKED)) is not None
    assert claimed(line("cifar10"), claim("60", **(ATTACKED | fields))) is None


def test_a_drop_is_over_the_sets_that_have_a_claim() -> None:
    some = claimed(line("cifar10", "stl10"), claim("60", **ATTACKED))
    assert some and (len(some.claims), some.of) == (1, 2) and some.drop == pytest.approx(0.1)


def test_each_reason_of_today_says_what_is_missing_and_who_could_say_it() -> None:
    judged = verdicts(claims(), [])
    untold = {v.reason for v in judged.values() if lacks(v) == OTHER}
    assert untold == set()
    assert sum(n for _, _, n in lacking(judged.values())) == len(judged)
    assert lacks(Verdict("c", "reproduced", "")) is None


def test_every_number_stands_once_in_a_printed_table_with_a_page_of_its_own() -> None:
    tables = printed(claims())
    held = Counter(c.id for t in tables for _, _, cells in t.rows for c in cells if c)
    assert held == Counter(c.id for c in claims())
    assert len(set(paths().values())) == len(paths()) == len(tables)
    assert paths()["tga-zsr", "Table 1"] == "papers/tga-zsr/table-1.html"
    one = next(t for t in tables if t.table == "Table 1" and t.source == "tga-zsr")
    assert all(
        c is None or c.column == name for _, _, cells in one.rows for c, name in zip(cells, one.columns, strict=True)
    )


def test_a_switch_is_measured_against_the_default_on_the_same_samples() -> None:
    default = outcome("1100", KNOWING, method="clipure_cos")
    variant = outcome("1000", KNOWING, method="clipure_cos+step=as_coded")
    found = rows([default, variant, outcome("1111", method="tecoa")])
    (one,) = switched(found, "clipure_cos", all_remaining(found))
    assert one.variant.method == variant.cell.method and one.default.method == "clipure_cos"
    assert one.difference and one.difference.difference == pytest.approx(-0.25)
    elsewhere = rows([default, outcome("10", KNOWING, method=variant.cell.method)])
    assert switched(elsewhere, "clipure_cos", all_remaining(elsewhere))[0].difference is None


def test_citations_escape_what_latex_would_read() -> None:
    cited = of_cell(made := outcome("10", method=r"\input{x}_%$"))
    assert r"\textbackslash{}input\{x\}\_\%\$" in cited and made.key in cited and r"\input" not in cited
    paper = of_paper(methods()["ttc"].card)
    assert paper.startswith("@inproceedings{ttc2025,\n  title = {CLIP is Strong") and paper.endswith("\n}")
    assert " and " in paper and "year = {2025}" in paper
