"""What no run of this code gives, or nobody can tell, is neither frozen nor compared with claims: it is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.suites import mini_claims
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.mini_claims import read_mini_claims
from vlm_gauntlet.suites.running import run_cell

from ..leaderboard.factory import outcome

N = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A genuine outcome, the same with forged bits under another seed, one of nobody's data, and no record at all."""
    (cell,) = plan(["undefended"], "miniclip-vit", ["digits"], ["clean"], limit=N)
    genuine = run_cell(cell, Journal(tmp_path / "o"))
    forged_cell = genuine.cell.model_copy(update={"seed": 5})
    samples = tuple(replace(s, label=s.label ^ 1) for s in genuine.samples)
    forged = genuine.model_copy(update={"cell": forged_cell, "key": forged_cell.key, "samples": samples})
    for made in (forged, outcome("1" * N, "clean")):
        Journal(tmp_path / "o").write(made)
    (tmp_path / "o" / "torn.json").write_text("{")
    return tmp_path / "o"


def test_only_what_passes_is_frozen_and_compared(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "undefended").mkdir()
    (tmp_path / "tecoa").mkdir()
    for name in ("undefended", "tecoa"):
        (tmp_path / name / "card.toml").touch()
    monkeypatch.setattr(mini_claims.freeze, "__defaults__", (tmp_path,))
    frozen = CliRunner().invoke(app, ["claims", "freeze", "--outcomes", str(folder)])
    assert frozen.exit_code == 0 and str(tmp_path / "undefended") in frozen.stdout
    (claim,) = read_mini_claims(tmp_path / "undefended" / mini_claims.FILE)
    assert claim.seed == 0 and len(claim.clean) == N
    assert not (tmp_path / "tecoa" / mini_claims.FILE).exists()
    for order in (["claims", "verdicts", "--mini"], ["claims", "verdicts"], ["claims", "direction"]):
        judged = CliRunner().invoke(app, [*order, "--outcomes", str(folder)])
        for said in (frozen.stderr, judged.stderr):
            assert "labels that are not the data set's" in said and "not taken: torn.json" in said
            assert "not known here" in said or "made with another" in said


def test_nothing_to_take_is_an_error_that_says_why(tmp_path: Path) -> None:
    Journal(tmp_path).write(outcome("1" * N, "clean"))
    frozen = CliRunner().invoke(app, ["claims", "freeze", "--outcomes", str(tmp_path)])
    assert frozen.exit_code == 2 and "that can be taken" in frozen.stderr and "not taken: " in frozen.stderr
