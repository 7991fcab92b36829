"""An outcome made by other code is not taken for this one's: the same command on the same folder runs again."""

import os
import subprocess
import sys
from pathlib import Path

from ..cli.farm import copy_code


def run(place: Path) -> tuple[str, str]:
    """The accuracy that the command says, and all that it says."""
    command = "run --method undefended --backbone miniclip-vit --dataset emoji_groups --protocol clean --limit 24"
    done = subprocess.run(
        [sys.executable, "-m", "vlm_gauntlet.cli", *command.split()], cwd=place, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(place)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("undefended-"))
    return row.split()[2], done.stdout


def test_an_edit_of_the_backbone_runs_the_cell_again(tmp_path: Path) -> None:
    """Inverted images on a finished cell: the journal's 66.7 % is not what this code gives."""
    copy_code(tmp_path / "vlm_gauntlet")
    before, told = run(tmp_path)
    assert "left out" not in told
    backbone = tmp_path / "vlm_gauntlet" / "fixtures" / "backbone.py"
    source = backbone.read_text()
    assert source.count("self.passes.forward += len(images)") == 1
    backbone.write_text(
        source.replace(
            "self.passes.forward += len(images)", "self.passes.forward += len(images)\n        images = 1 - images"
        )
    )
    after, told = run(tmp_path)
    assert float(after) < float(before) - 20, "a fresh folder says as much"
    assert "left out: 1 finished cell in outcomes/, made by other code" in told
    assert len(list((tmp_path / "outcomes").glob("*.json"))) == 2
