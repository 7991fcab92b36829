"""`gauntlet retrieval` says which finished cells lie aside because a file that they were made with is another now."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.leaderboard.factory import retrieved
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.suites import retrieval
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal

ASKED = ["retrieval", "--attack", "sga", "--outcomes"]


def test_what_was_replaced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (read := tmp_path / "gain.txt").write_text("one")
    plain = retrieved()
    first = plain.model_copy(
        update={"provenance": plain.provenance.model_copy(update={"files": {str(read): sha256(b"one")}})}
    )
    journal = RetrievalJournal(tmp_path / "o")
    journal.write(first)
    monkeypatch.setattr(retrieval, "run_retrieval", lambda *_, **__: plain)
    quiet = CliRunner().invoke(app, [*ASKED, str(tmp_path / "o")])
    assert quiet.exit_code == 0 and "left out" not in quiet.output
    read.write_text("two")
    journal.write(plain)
    told = CliRunner().invoke(app, [*ASKED, str(tmp_path / "o")])
    left = f"left out: 1 finished cell in {tmp_path / 'o'}/retrieval/replaced/, made with other files: gain.txt"
    assert left in told.stdout.splitlines()
    data = CliRunner().invoke(app, [*ASKED, str(tmp_path / "o"), "--json"])
    assert json.loads(data.stdout)[0]["attack"] == "sga" and left in data.stderr
