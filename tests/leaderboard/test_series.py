"""Series: which outcomes make one, in what order, and what the page says of them."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.series import STEPS, series
from vlm_gauntlet.leaderboard.site import build_site

from .factory import MADE, outcome

BITS = {1: "1111", 5: "1110", 30: "1000"}
PGD = "pgd-{}-white-box-linf-1-255"


def by_steps(**fields: object) -> list[Outcome]:
    return [outcome(bits, PGD.format(steps), **fields) for steps, bits in BITS.items()]  # type: ignore[arg-type]


def by_mix() -> list[Outcome]:
    names = {"tecoa": "1110", "tecoa+mix=0.5": "1100", "tecoa+mix=0.25": "0000"}
    return [outcome(bits, PGD.format(10), method=name, clean="1110") for name, bits in names.items()]


def test_steps_in_ascending_order() -> None:
    (found,) = series([*reversed(by_steps()), outcome("0000", "apgd-ce-20-white-box-linf-1-255")])
    assert (found.knob, found.method, found.attack) == (STEPS, "tecoa", "pgd, white-box, eps 1/255")
    assert [(p.value, p.robust.value) for p in found.points] == [(1, 1.0), (5, 0.75), (30, 0.25)]


def test_a_step_count_that_a_protocol_leaves_to_its_default_counts() -> None:
    held = [*by_steps()[:2], outcome("1100", PGD.format(10))]
    assert [p.value for p in series(held)[0].points] == [1, 5, 10]


def test_a_numeric_switch_with_its_default() -> None:
    (found,) = series(by_mix())
    assert (found.knob, found.method) == ("mix", "tecoa")
    assert [(p.value, p.robust.value) for p in found.points] == [
        (Fraction(1, 4), 0.0), (Fraction(1, 2), 0.5), (1, 0.75),
    ]  # fmt: skip
    assert {p.clean.value for p in found.points} == {0.75}


def test_clean_accuracy_alone_is_no_series() -> None:
    held = [outcome("1110", "clean", method=f"tecoa{mix}") for mix in ("", "+mix=0.5", "+mix=0.25")]
    assert series(held) == []


def test_a_composition_keeps_what_it_stands_on() -> None:
    """The switch of the tower below is no switch of the method above."""
    held = [outcome("1110", PGD.format(10), method=f"ttc@tecoa{mix}") for mix in ("", "+mix=0.5", "+mix=0.25")]
    assert series(held) == []


@pytest.mark.parametrize(
    "last",
    [
        None,
        outcome("10000", PGD.format(30)),
        outcome("1000", PGD.format(30), method="ttc"),
        outcome("1000", PGD.format(30), seed=1),
        outcome("1000", PGD.format(30), code="other"),
        outcome("1000", "pgd-30-white-box-linf-4-255"),
        outcome("1000", PGD.format(30), dataset="other"),
    ],
    ids=["two points", "other samples", "other method", "other seed", "other code", "other eps", "other data"],
)
def test_what_makes_no_series(last: Outcome | None) -> None:
    assert series([*by_steps()[:2], *([last] if last else [])]) == []


def test_of_a_repeated_cell_the_latest_counts() -> None:
    early = outcome("1111", PGD.format(30), age_days=1)
    assert series([*by_steps(), early])[0].points[-1].robust.value == 0.25


def test_the_page_shows_and_exports_each_point(tmp_path: Path) -> None:
    build_site([*by_steps(), *by_mix()], tmp_path / "site", made=MADE)
    page = (tmp_path / "site" / "series.html").read_text()
    assert page.count('class="chart"') == 2
    with (tmp_path / "site" / "series.csv").open() as file:
        lines = list(csv.DictReader(file))
    knobs = [line["knob"] for line in lines]
    assert (knobs.count(STEPS), knobs.count("mix")) == (4, 3), "ten steps at the default share stand in both"
    assert json.loads((tmp_path / "site" / "series.json").read_text())[0].keys() == lines[0].keys()
    for line in lines:
        assert (
            f"outcomes/{line['outcome']}.json" in page
            and (tmp_path / "site" / "outcomes" / f"{line['outcome']}.json").is_file()
        )
    assert "series.html" in (tmp_path / "site" / "index.html").read_text()


def test_a_board_without_series_says_how_to_make_one(tmp_path: Path) -> None:
    build_site([outcome("11")], tmp_path / "site", made=MADE)
    assert "gauntlet run --tier sweeps" in (tmp_path / "site" / "series.html").read_text()
