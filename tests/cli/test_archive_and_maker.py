"""`gauntlet run --archive` and `--maker`, and what `gauntlet verify` makes of an archive and of a retrieval outcome."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.suites.maker import VARIABLE

CELL = ("--method", "undefended", "--backbone", "miniclip-vit", "--dataset", "digits", "--limit", "2")


def gauntlet(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env=env, prog_name="gauntlet")


def test_archived_images_are_scored_and_attacked_again_only_when_asked(tmp_path: Path) -> None:
    protocols = ("--protocol", "pgd-10-white-box-linf-4-255", "--protocol", "clean")
    run = gauntlet("run", *CELL, *protocols, "--archive", "--outcomes", tmp_path)
    assert run.exit_code == 0, run.output
    assert "archived: images of 1 finished cell," in run.stdout and "not archived: 1 finished cell" in run.stdout
    (images,) = (tmp_path / "archive").glob("*.safetensors")
    outcome = tmp_path / f"{images.stem}.json"
    looked = gauntlet("verify", outcome, "--samples", 1)
    assert looked.exit_code == 0 and "verified 1 of 2 from the archive" in looked.stdout
    images.write_bytes(images.read_bytes()[:-1])
    torn = gauntlet("verify", outcome)
    assert torn.exit_code == 2 and "cut or missing" in torn.stderr and "--recompute" in torn.stderr
    again = gauntlet("verify", outcome, "--recompute")
    assert again.exit_code == 0 and "verified 2 of 2 (chosen" in again.stdout
    kept = json.loads((tmp_path / f"{images.stem}.verified.json").read_text())["verifications"]
    assert [look["source"] for look in kept] == ["archive", "recomputed"]


def test_a_retrieval_outcome_is_verified_by_its_content(tmp_path: Path) -> None:
    words = ("--attack", "sep", "--limit", "2", "--outcomes", tmp_path)
    assert gauntlet("retrieval", *words, "--maker", "authors").exit_code == 0
    (path,) = (tmp_path / "retrieval").glob("*.json")
    record = json.loads(path.read_text())
    assert record["provenance"]["maker"] == "authors"
    fine = gauntlet("verify", path)
    assert fine.exit_code == 0 and "verified 2 of 2" in fine.stdout
    record["captions_changed"] = 0
    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps(record))
    wrong = gauntlet("verify", theirs, "--no-record")
    assert wrong.exit_code == 1 and "captions_changed" in wrong.stdout


@pytest.mark.parametrize(
    ("option", "variable", "written"),
    [((), None, "unknown"), ((), "first party", "first party"), (("--maker", "authors"), "first party", "authors")],
)
def test_the_maker_is_written_down(
    option: tuple[str, ...], variable: str | None, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    env = {VARIABLE: variable} if variable else None
    assert gauntlet("run", *CELL, "--protocol", "clean", *option, "--outcomes", tmp_path, env=env).exit_code == 0
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["provenance"]["maker"] == written


def test_a_maker_that_no_record_knows_is_refused_before_anything_runs(tmp_path: Path) -> None:
    order = ("run", *CELL, "--protocol", "clean", "--outcomes", tmp_path)
    for result in (gauntlet(*order, "--maker", "author"), gauntlet(*order, env={VARIABLE: "author"})):
        assert result.exit_code == 2 and "did you mean authors" in result.stderr
    assert not list(tmp_path.iterdir())
