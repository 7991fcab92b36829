"""Whatever happens to a cell, the others run, and the report tells what became of each."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.leaderboard.night_plan import night_plan
from vlm_gauntlet.leaderboard.night_report import Night, write_report
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.engines import ends as running
from vlm_gauntlet.suites.engines.ends import Asked, CellEnd
from vlm_gauntlet.suites.engines.local import run_cells
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.planning.rates import given
from vlm_gauntlet.suites.planning.work import key_of
from vlm_gauntlet.suites.record_folder import BusyError

from .test_running import cell, tiny_set  # noqa: F401


@pytest.fixture
def cells() -> list[CellPlan]:
    return plan(["undefended", "ttc", "rn", "tecoa", "aom"], "miniclip-vit", ["digits"], ["clean"], limit=4)


def test_no_cell_ends_the_night(cells: list[CellPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = [
        MemoryError("full"), UnavailableError("no weights", expected="some", where="here", fix="fetch them"),
        GauntletError("a wrong class count", expected="10", where="digits", fix="look"),
        OSError(28, "No space left on device"), SystemError("unheard of"),
    ]  # fmt: skip
    raising = iter(raised)
    monkeypatch.setattr(running, "run_cell", lambda *_, **__: (_ for _ in ()).throw(next(raising)))
    told: list[CellEnd] = []
    ends = run_cells(cells, Journal(tmp_path), told=told.append)
    assert [e.word for e in ends] == ["failed", "not run", "failed", "failed", "failed"] and told == ends
    assert ends[1].reason == "no weights; fetch them" and "a wrong class count (digits)" in ends[2].reason
    assert "No space left" in ends[3].reason and "unheard of" in ends[4].reason


def test_an_interrupt_and_the_end_of_the_time_leave_the_rest(
    cells: list[CellPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_cell", stop)
    stopped = run_cells(cells, Journal(tmp_path))
    assert [e.word for e in stopped] == ["not reached"] * 5 and "goes on from the batch in flight" in stopped[4].reason
    clock = itertools.count(0, 10)
    monkeypatch.setattr(running, "run_cell", lambda *_, **__: (_ for _ in ()).throw(ValueError("x")))
    late = run_cells(cells, Journal(tmp_path), seconds=35, clock=lambda: float(next(clock)))
    assert [e.word for e in late] == ["failed", *["not reached"] * 4]
    assert late[-1].reason == "the time was over"


def test_a_cell_that_another_process_has_comes_last(
    cells: list[CellPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[str, bool]] = []

    def run(cell: CellPlan, *_: object, wait: bool, **__: object) -> object:  # noqa: F811
        order.append((cell.id, wait))
        if cell in cells[:2] and not wait:
            raise BusyError("its key")
        raise ValueError("x")

    monkeypatch.setattr(running, "run_cell", run)
    told: list[CellEnd] = []
    ends = run_cells(cells, Journal(tmp_path), told=told.append)
    last = [*cells[2:], *cells[:2]]
    assert order == [(c.id, False) for c in cells] + [(c.id, True) for c in cells[:2]]
    assert [e.key for e in ends] == [key_of(c) for c in last] and told == ends


def test_a_cell_runs_once_and_is_then_taken(cell: CellPlan, tmp_path: Path) -> None:  # noqa: F811
    journal = Journal(tmp_path)
    (first,), (second,) = run_cells([cell], journal, Asked(archive=True)), run_cells([cell], journal)
    assert (first.word, second.word) == ("ran", "taken") and first.outcome == second.outcome
    assert first.outcome is not None and (tmp_path / "archive" / f"{first.outcome.key}.safetensors").is_file()


def test_the_report_names_everything(cells: list[CellPlan], cell: CellPlan, tmp_path: Path) -> None:  # noqa: F811
    (ran,) = run_cells([cell], Journal(tmp_path / "o"))
    made = night_plan(cells, [], given(10.0), tmp_path / "none", backbone="miniclip-vit", seed=0)
    keys = [key_of(c) for c in made.cells]
    ends = [replace(ran, key=keys[0]), CellEnd(keys[1], "failed", "it | broke\nbadly", 1.0),
            CellEnd(keys[2], "not run", "no data"), CellEnd(keys[3], "not reached", "the time was over")]  # fmt: skip
    choice = made.chosen(1e9)
    finished = Night(
        made,
        replace(choice, cells=choice.cells[:4]),
        ends,
        {},
        "abacus",
        3600.0,
        7,
        "site/index.html",
        "miniclip-vit",
        [],
    )
    text, record = write_report(finished, tmp_path / "report")
    told, kept = text.read_text(), json.loads(record.read_text())
    assert "1 ran, 0 taken, 1 not run, 1 failed, 1 not reached" in told
    for said in (
        "it | broke badly",
        "no data",
        "the time was over",
        "seed 7",
        "abacus",
        "## Failed",
        "## Not run",
        "Controls not run: no public source has numbers of miniclip-vit.",
    ):
        assert said in told
    assert kept["cells"]["failed"] == 1 and kept["left_out"]["cells"] == [choice.cells[4]]
    assert [e["word"] for e in kept["ends"]] == ["ran", "failed", "not run", "not reached"]
    assert kept["ends"][0]["n"] == 10 and kept["seed"] == 7
