"""Curves over several eps on the pages: which rows make one, what the pages and files say."""

import csv
import io
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.exports import as_csv
from vlm_gauntlet.leaderboard.optimality_page import drawings
from vlm_gauntlet.leaderboard.robustness_curve import ALL
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.sweeps import records, sweeps
from vlm_gauntlet.suites.tiers import tier

from .factory import MADE, outcome
from .test_robustness_curve import STRONG, WEAK, tried

WEAK_BITS, STRONG_BITS = ("1111", "1110", "1110"), ("1011", "0011", "0011")


def attacked(**fields: object) -> list[Outcome]:
    """Optimality of the two: 1 - 11/15 and 1 - 4/15, as computed by hand in `test_robustness_curve.py`."""
    return [*tried(WEAK, WEAK_BITS, **fields), *tried(STRONG, STRONG_BITS, **fields)]


def test_three_radii_of_the_same_samples_make_a_curve() -> None:
    (sweep,) = sweeps(rows(attacked()))
    assert sweep.grid == (Fraction(1, 255), Fraction(4, 255), Fraction(8, 255)) and len(sweep.rows) == 3
    assert sweep.best.accuracy == (1.0, 0.75, 0.25, 0.25)
    assert sweep.best.area == pytest.approx(17 / 4 / 255)
    assert [(one.attacker, one.value) for one in sweep.attackers] == [
        (STRONG, pytest.approx(11 / 15)), (WEAK, pytest.approx(4 / 15)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "held",
    [
        [o for o in attacked() if o.cell.protocol.threat.eps != Fraction(4, 255)],
        [*attacked()[:2], outcome("11111", f"{WEAK}-linf-8-255")],
        [*attacked()[:2], outcome("1111", f"{WEAK}-linf-8-255", method="ttc")],
        [*attacked()[:2], outcome("1111", f"{WEAK}-linf-8-255", seed=1)],
        [*attacked()[:2], outcome("1111", f"{WEAK}-linf-8-255", code="other")],
        [*attacked()[:2], outcome("1111", f"{WEAK}-linf-1"), outcome("1111", "pgd-10-white-box-linf-0")],
        [outcome("1111", f"sep-char-1-transfer-linf-{eps}") for eps in ("1-255", "4-255", "16-255")],
    ],
    ids=["two radii", "other samples", "another method", "another seed", "other code", "controls", "text as well"],
)
def test_what_makes_no_curve(held: list[Outcome]) -> None:
    assert sweeps(rows(held)) == []


def test_rows_of_unknown_make_or_of_several_samples_make_none() -> None:
    unknown = [replace(row, state="unknown here") for row in rows(attacked())]
    mixed = [*attacked(), outcome("111", "pgd-10-transfer-linf-4-255")]
    assert sweeps(unknown) == [] and sweeps(rows(mixed)) == []


def test_the_samples_that_most_radii_share_are_taken() -> None:
    apart = [outcome("1" * 9, f"{WEAK}-linf-{eps}") for eps in ("16-255", "1-510")]
    (sweep,) = sweeps(rows([*apart, *attacked()]))
    assert sweep.row.clean.n == 4 and len(sweep.rows) == 3


def test_the_files_say_what_the_curves_say() -> None:
    lines = records(sweeps(rows(attacked())))
    assert [line["attacker"] for line in lines] == [ALL, STRONG, WEAK]
    assert [line["optimality"] for line in lines] == [None, pytest.approx(11 / 15), pytest.approx(4 / 15)]
    assert lines[2]["curve"] == "0:1 1/255:1 4/255:0.75 8/255:0.75" and lines[2]["passes"] == 60
    assert lines[0]["radii_tried"] == "1/255 4/255 8/255" and lines[0]["states"] == "3 valid"
    read = list(csv.DictReader(io.StringIO(as_csv(lines))))
    assert [line["attacker"] for line in read] == [ALL, STRONG, WEAK] and read[0]["optimality"] == ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    held = [*attacked(), *attacked(method="ttc")[:3], outcome("1000", f"{STRONG}-linf-4-255", method="ttc")]
    return build_site(held, tmp_path_factory.mktemp("board") / "site", made=MADE).parent


def test_the_method_page_shows_curve_area_and_attackers(site: Path) -> None:
    text = (site / "methods" / "tecoa.html").read_text()
    assert "As ε grows" in text and "4.25/255" in text and 'class="chart"' in text
    assert "optimality 0.733, 60 passes a sample" in text and "0.267" in text
    partly = (site / "methods" / "ttc.html").read_text()
    assert "(100.0)</span>" in partly and "upper bound" not in partly.partition("As ε grows")[0]


def test_the_row_leads_to_its_curve(site: Path) -> None:
    page = (site / "datasets" / "shapes.html").read_text()
    anchor = "curve-tiny-shapes-linf-model-0"
    assert f'<a href="../methods/tecoa.html#{anchor}">curve over 3 ε</a>, area 4.25/255' in page
    assert f'id="{anchor}"' in (site / "methods" / "tecoa.html").read_text()
    assert 'href="../optimality.html"' in page


def test_the_page_of_all_attackers(site: Path) -> None:
    text = (site / "optimality.html").read_text()
    assert "<b>0.733</b>" in text and "0.267" in text and "of 2 rows" in text
    assert text.count("4.25/255") == 1 and "arXiv:2404.19460" in text
    assert len(json.loads((site / "optimality.json").read_text())) == 3 + 3
    assert len((site / "optimality.csv").read_text().splitlines()) == 1 + 3 + 3


def test_without_curves_the_page_says_how_to_make_some(tmp_path: Path) -> None:
    site = build_site([outcome("10")], tmp_path / "site").parent
    assert "gauntlet run --tier curves" in (site / "optimality.html").read_text()
    assert (site / "optimality.csv").read_text() == "" and "As ε grows" not in (site / "methods/tecoa.html").read_text()


def test_many_curves_are_not_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_gauntlet.leaderboard.optimality_page.DRAWINGS", 1)
    found = sweeps(rows([*attacked(), *attacked(method="ttc")]))
    assert len(found) == 2 and [svg is not None for svg in drawings(found).values()] == [True]


def test_the_tier_has_one_grid_for_all_its_attackers() -> None:
    chosen = tier("curves")
    families: dict[str, set[str]] = {}
    for name in chosen.protocols:
        if name != "clean":
            family, _, eps = name.partition("-linf-")
            families.setdefault(family, set()).add(eps)
    assert len(families) >= 3
    assert all(radii == {"1-510", "1-255", "2-255", "4-255", "8-255"} for radii in families.values())
    assert not chosen.gpu and not chosen.network and chosen.limit <= 16
