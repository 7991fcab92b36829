"""Stores of other programs: what they read back is what the rows say; without a package, one line and no error."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.leaderboard import evidence, trackers
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.exports import records
from vlm_gauntlet.leaderboard.rows import rows

from .factory import fired, outcome

OUTCOMES = [outcome("1100"), outcome("1111", method="=1")]
MASKED = outcome("1110", method="rn", indicators=[fired("dead-gradient")])


@pytest.fixture
def lines() -> list[dict[str, object]]:
    return records(rows([*OUTCOMES, MASKED]))


def test_parquet_reads_back_as_the_rows(lines: list[dict[str, object]], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (the extra `export`)")
    assert trackers.send("parquet", lines, tmp_path) == ""
    read = parquet.read_table(tmp_path / "results.parquet")
    assert read.to_pylist() == lines and [p.name for p in tmp_path.iterdir()] == ["results.parquet"]
    assert str(read.schema.field("clean").type) == "double" and str(read.schema.field("n").type) == "int64"
    assert sorted(read["worst_case"].drop_null().to_pylist()) == [0.5], "masked rows have no number"


def test_mlflow_reads_back_as_the_rows(lines: list[dict[str, object]], tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    assert trackers.send("mlflow", lines, tmp_path) == ""
    client = tracking.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    found = client.search_runs([client.get_experiment_by_name(trackers.PROJECT).experiment_id])
    read = {run.data.tags["method"]: run.data for run in found}
    assert read.keys() == {"tecoa", "=1", "rn"} and read["tecoa"].metrics["worst_case"] == 0.5
    assert "worst_case" not in read["rn"].metrics and read["rn"].tags["state"] == "masked"


def test_wandb_keeps_an_offline_run(lines: list[dict[str, object]], tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    assert trackers.send("wandb", lines, tmp_path) == ""
    assert [*tmp_path.glob("wandb/offline-run-*/*.wandb")], "a run that `wandb sync` could send"


@pytest.mark.parametrize("kind", trackers.PACKAGES)
def test_a_missing_package_is_one_line_and_no_failure(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    monkeypatch.setattr(evidence, "gather", lambda *_: Evidence(sound=OUTCOMES))
    said = CliRunner().invoke(app, ["export", "--to", kind, "--outcomes", str(tmp_path), "--out", str(tmp_path / "x")])
    assert said.exit_code == 0 and said.stderr.count("\n") == 1 and said.stdout == ""
    assert said.stderr.startswith(f"not exported: the package {trackers.PACKAGES[kind]} is not installed")
    assert not (tmp_path / "x").exists()


def test_a_library_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("line one\nline two")

    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    monkeypatch.setattr(trackers, "_parquet", fails)
    assert trackers.send("parquet", [], tmp_path) == "not exported: pyarrow raised RuntimeError: line one line two"
