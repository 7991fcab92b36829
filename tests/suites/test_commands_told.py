"""Commands that outcomes and pages tell are commands that run."""

import shlex
import sys
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests.leaderboard.factory import outcome
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.leaderboard.formatting import askable, command
from vlm_gauntlet.suites.estimate import estimate
from vlm_gauntlet.suites.plugin import as_started
from vlm_gauntlet.suites.running import this_command
from vlm_gauntlet.suites.tiers import tier


def test_a_worker_tells_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-c"])
    as_started(SimpleNamespace(workerinput={"mainargv": ["/env/pytest/__main__.py", "suites/", "-m", "fast"]}))  # type: ignore[arg-type]
    assert this_command() == "pytest suites/ -m fast"
    as_started(SimpleNamespace())  # type: ignore[arg-type]  # no worker
    assert this_command() == "pytest suites/ -m fast"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("tecoa", "tecoa"), ("ttc+gate_off=zero@tecoa", "ttc+gate_off=zero@tecoa"), ("pkg.mod:Mine", "pkg.mod:Mine"),
        ("JpegResizeAverage", "FILE.py:JpegResizeAverage"), ("Mine+a=b@tecoa", "FILE.py:Mine+a=b@tecoa"),
        ("ttc@Mine", "ttc@FILE.py:Mine"),
    ],
)  # fmt: skip
def test_a_page_names_what_the_option_takes(label: str, name: str) -> None:
    assert askable(label) == name
    assert shlex.split(command(outcome("1", method=label)))[:4] == ["gauntlet", "run", "--method", name]


def test_run_without_a_choice_runs_nothing_and_says_what_there_is(tmp_path: object) -> None:
    said = CliRunner().invoke(app, ["run", "--outcomes", f"{tmp_path}/none"])
    assert said.exit_code == 0 and "Nothing was run" in said.stdout
    _, methods, datasets, protocols, cells, limit, _ = estimate(tier("fast"))
    assert cells == methods * datasets * protocols > 0 and limit == tier("fast").limit
    assert any(line.split()[:3] == ["fast", "miniclip-vit", str(methods)] for line in said.stdout.splitlines())
