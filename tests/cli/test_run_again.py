"""What `gauntlet run` says of finished cells: taken although made with other versions, or left out for other code."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.suites import cells
from vlm_gauntlet.suites.versions import versions_here

CELLS = "run --method undefended --method rn --backbone miniclip-vit --dataset digits --protocol clean --limit 4"


def run(folder: Path) -> str:
    result = CliRunner().invoke(app, [*CELLS.split(), "--outcomes", str(folder)], prog_name="gauntlet")
    assert result.exit_code == 0, result.output
    return result.output


def test_cells_of_other_versions_and_of_other_code_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path)
    assert "left out" not in first and "made with" not in first
    path = sorted(tmp_path.glob("*.json"))[0]
    record = json.loads(path.read_text())
    record["provenance"]["versions"]["torch"] = "1.0.0"
    path.write_text(json.dumps(record))
    again = " ".join(run(tmp_path).split())
    told = f"taken from {tmp_path}/: 1 finished cell, made with torch 1.0.0 (here {versions_here()['torch']})"
    assert told in again and "left out" not in again
    monkeypatch.setattr(cells, "cell_code", lambda *_: "other")
    after = " ".join(run(tmp_path).split())
    assert f"left out: 2 finished cells in {tmp_path}/, made by other code" in after and "taken from" not in after
