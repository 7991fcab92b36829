"""A failed property prints a command; run as it is, the command fails on the same example and on no other."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PROPERTY = """
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

@pytest.mark.parametrize("name", ["it's", "b"])
@settings(database=None, print_blob=True, deadline=None)
@given(x=st.integers(0, 10**9), words=st.lists(st.sampled_from(["a", "b, (c)"])))
def test_small(name, x, words):
    open("calls", "a").write("x")
    assert x < 70_000 or "b, (c)" not in words
"""


def run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of somebody else's, which loads the plug-in."""
    options = '"-p vlm_gauntlet.suites.plugin -p xdist"'
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = {options}\n")
    (tmp_path / "test_property.py").write_text(PROPERTY)
    return tmp_path


def printed(output: str) -> dict[str, list[str]]:
    """The command beside each call, of all sections `reproduce`."""
    found = [part.splitlines()[2:4] for part in output.split("- reproduce -")[1:]]
    return {call: shlex.split(command) for call, command in found}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_printed_command_fails_in_the_same_way(workers: str, folder: Path) -> None:
    first = run([sys.executable, "-m", "pytest", "-q", "-n", workers, "test_property.py"], folder)
    commands = printed(first)
    call = """# test_small(name="it's", x=70000, words=['b, (c)'])"""
    assert sorted(commands) == [call, call.replace('"it\'s"', "'b'")]
    assert len((folder / "calls").read_text()) > 20, "a search"
    (folder / "calls").unlink()
    again = run([sys.executable, *commands[call][1:]], folder)
    same = [
        "assert (70000 < 70000 or 'b, (c)' not in ['b, (c)'])",
        "x=70000",
        "words=['b, (c)']",
        "test_property.py:11:",
    ]
    assert all(line in first and line in again for line in same)
    assert "1 failed" in again and len((folder / "calls").read_text()) < 5, "no search"


def test_both_rooms_of_properties_print_it(pytestconfig: pytest.Config) -> None:
    from hypothesis import settings

    assert settings().print_blob and pytestconfig.pluginmanager.has_plugin("vlm_gauntlet.suites.falsified")
    source = (Path(__file__).parents[2] / "suites" / "conftest.py").read_text()
    assert "print_blob=True" in source
