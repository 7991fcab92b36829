"""Two processes on one list of cells: each takes what the other has not, and waits only for the last."""

import json
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.record_folder import BusyError
from vlm_gauntlet.suites.running import run_cell

METHODS, SET = ["undefended", "rn"], ["digits"]
CELLS = "run --method undefended --method rn --backbone miniclip-vit --dataset digits --protocol clean --limit 2"


def finished(folder: Path) -> list[str]:
    """Methods of the outcomes there."""
    return [json.loads(path.read_text())["cell"]["method"] for path in folder.glob("*.json")]


def test_a_cell_that_another_process_runs_comes_last(tmp_path: Path) -> None:
    first, second = plan(METHODS, "miniclip-vit", SET, ["clean"], limit=2)
    key = run_cell(first, Journal(tmp_path / "elsewhere")).key
    seen: list[list[str]] = []
    taken = threading.Event()

    def another() -> None:
        with Journal(tmp_path).lock(key):
            taken.set()
            until = time.monotonic() + 120
            while not finished(tmp_path) and time.monotonic() < until:
                time.sleep(0.05)
            seen.append(finished(tmp_path))

    other = threading.Thread(target=another)
    other.start()
    taken.wait()
    with pytest.raises(BusyError, match=key):
        run_cell(first, Journal(tmp_path), wait=False)
    result = CliRunner().invoke(app, [*CELLS.split(), "--outcomes", str(tmp_path)], prog_name="gauntlet")
    other.join()
    assert result.exit_code == 0, result.output
    assert seen == [[second.method.name]], "while the other one still held the first cell"
    assert sorted(finished(tmp_path)) == sorted(METHODS)
