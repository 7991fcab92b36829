"""The tool that compares attacks, and the table that it left."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.methods.registry import method

from .slack import COLUMNS, arguments, main

TABLE = Path(__file__).with_name("slack_2026-11.csv")
ROWS = list(csv.DictReader(TABLE.open()))


def test_the_tool_adds_a_line_for_each_attack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "slack.csv"
    asked = ["undefended", "--limit", "3", "--against", "fgsm-white-box", "--by", "ensemble-short-adaptive"]
    for _ in range(2):
        main(arguments([*asked, "--set", "rounds=2", "--table", str(table)]))
    rows = list(csv.DictReader(table.open()))
    assert list(rows[0]) == COLUMNS and rows[:2] == [
        row | {"seconds": rows[i]["seconds"]} for i, row in enumerate(rows[2:])
    ]
    weak, strong = rows[:2]
    assert (weak["converged"], weak["changed"], strong["changed"]) == ("", "", "rounds=2")
    assert int(strong["backward"]) > int(weak["backward"]) == 1 and float(strong["standing"]) <= float(weak["standing"])
    assert "slack" in capsys.readouterr().out


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['method']}-{row['backbone']}-{row['protocol']}")
def test_a_line_can_be_measured_again(row: dict[str, str]) -> None:
    assert list(row) == COLUMNS
    assert protocol(row["protocol"]).id == row["protocol"] and method(row["method"])
    assert 0 <= float(row["standing"]) <= int(row["n"]) and int(row["draws"]) >= 1
    assert (row["converged"] != "") == row["protocol"].startswith("ensemble")


def test_no_attack_of_a_tier_leaves_less_than_the_ensemble_by_more_than_a_sample() -> None:
    left: dict[tuple[str, ...], dict[bool, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in ROWS:
        where = tuple(row[name] for name in ("method", "backbone", "dataset", "n"))
        left[where][row["protocol"].startswith("ensemble")].append(float(row["standing"]))
    compared = {where: sides for where, sides in left.items() if len(sides) == 2}
    assert compared
    for where, sides in compared.items():
        assert min(sides[True]) <= min(sides[False]) + 1, where
