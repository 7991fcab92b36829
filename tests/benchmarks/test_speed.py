"""The benchmarks run, and their table says where it was made. No time is asserted."""

import csv
from pathlib import Path

import pytest
import torch

from .growth import Spent, steps
from .paired import Row, interleaved, interval, machine
from .speed import COLUMNS, arguments, main, table, written

TABLE = Path(__file__).with_name("speed_2026-11.csv")


def test_work_is_done_in_turns_and_who_goes_first_changes() -> None:
    done: list[str] = []
    found = interleaved(lambda: done.append("ours"), lambda: done.append("theirs"), 3)
    assert done == ["ours", "theirs"] * 2 + ["theirs", "ours"] + ["ours", "theirs"] and len(found) == 3


def test_an_interval_holds_the_median_and_narrows() -> None:
    low, high = interval([1.0, 1.1, 1.2, 1.3, 1.4])
    assert 1.0 <= low <= 1.2 <= high <= 1.4
    assert interval([1.2] * 5) == (1.2, 1.2)


def test_growth_compares_late_pieces_with_early_ones() -> None:
    cost, memory = steps("cell", (1, 4, 8), [Spent(2, 100), Spent(5, 110), Spent(13, 120)])
    assert (cost.ours, cost.theirs, cost.ratio) == (2000, 1000, 2) and memory.ratio == pytest.approx(1.2)


def test_the_smallest_run_writes_its_lines_and_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, threads = tmp_path / "speed.csv", torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    main(arguments(["--only", "machine", "--size", "smoke", "--threads", str(threads), "--out", str(out)]))
    (line,) = csv.DictReader(out.open(newline=""))
    assert list(line) == COLUMNS and line["bench"] == "flops" and float(line["ratio"]) > 0
    assert "matmul" in capsys.readouterr().out


def test_the_committed_table_reads() -> None:
    lines = list(csv.DictReader(TABLE.open(newline="")))
    assert lines and list(lines[0]) == COLUMNS and "torchattacks" in table(lines)
    row = Row("attacks", "work", "peer", "ms", 1.0, 2.0, 0.5)
    assert list(written(row, machine())) == COLUMNS
