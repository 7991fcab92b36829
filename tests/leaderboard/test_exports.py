import csv
import io
import json

import pytest

from vlm_gauntlet.fixtures.records import MOST_PASSES
from vlm_gauntlet.leaderboard.chart import chart
from vlm_gauntlet.leaderboard.exports import as_csv, to_csv, to_json, to_latex
from vlm_gauntlet.leaderboard.rows import Row, rows

from .factory import fired, outcome

PGD = "pgd-10-white-box-linf-1-255"


@pytest.fixture
def found() -> list[Row]:
    return rows([outcome("1100"), outcome("1111", method="my_pkg_50%", indicators=[fired("dead-gradient")])])


def test_csv_and_json_say_the_same(found: list[Row]) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    objects = json.loads(to_json(found))
    assert [line["method"] for line in lines] == [o["method"] for o in objects] == ["tecoa", "my_pkg_50%"]
    assert float(lines[0]["worst_case"]) == objects[0]["worst_case"] == 0.5
    assert lines[0]["eps"] == objects[0]["eps"] == "1/255"


def test_a_masked_number_is_not_exported_as_a_worst_case(found: list[Row]) -> None:
    assert json.loads(to_json(found))[1]["worst_case"] is None
    assert list(csv.DictReader(io.StringIO(to_csv(found))))[1]["worst_case"] == ""


def test_latex_escapes_and_balances(found: list[Row]) -> None:
    text = to_latex(found)
    assert r"my\_pkg\_50\%" in text and "my_pkg" not in text
    assert text.count(r"\begin{") == text.count(r"\end{") > 0
    assert r"$L_\infty$" in text and "∞" not in text and "ε" not in text


def test_latex_caption_escapes_every_special() -> None:
    caption = to_latex(rows([outcome("10", backbone="a^b~c", dataset="d\\e_f")])).splitlines()[1]
    assert r"a\textasciicircum{}b\textasciitilde{}c, d\textbackslash{}e\_f" in caption


def test_nothing_exports_to_nothing() -> None:
    assert to_csv([]) == "" and json.loads(to_json([])) == [] and to_latex([]) == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_that_a_spreadsheet_would_calculate_is_text(start: str) -> None:
    text = as_csv([{"method": f"{start}HYPERLINK(1)", "drop": -0.5, "n": 3, "none": None, "plain": "a=b"}])
    (line,) = csv.DictReader(io.StringIO(text))
    assert line["method"] == f"'{start.replace(chr(13), ' ')}HYPERLINK(1)" and line["plain"] == "a=b"
    assert (line["drop"], line["n"], line["none"]) == ("-0.5", "3", ""), "numbers stay numbers"


def test_no_name_is_a_formula_in_the_table_of_rows() -> None:
    (line,) = csv.DictReader(io.StringIO(to_csv(rows([outcome("10", method="=1+1", dataset="@x")]))))
    assert (line["method"], line["dataset"]) == ("'=1+1", "'@x")


def test_the_largest_costs_are_exported_and_drawn() -> None:
    made = outcome("10", passes=MOST_PASSES // 2)
    found = rows([made, outcome("11", method="undefended")])
    assert to_csv(found) and to_json(found) and to_latex(found) and chart(found, "c", "costs")


def test_who_ran_a_row_is_told(found: list[Row]) -> None:
    (line,) = csv.DictReader(io.StringIO(to_csv(found[:1], None, lambda row: f"{row.method} by somebody")))
    assert line["evidence"] == "tecoa by somebody"
