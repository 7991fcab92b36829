import csv
import io
import json

import pytest

from vlm_gauntlet.leaderboard.exports import to_csv, to_json, to_latex
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
