"""Shells complete commands and options by asking the program itself."""

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app


def asked(words: str, shell: str) -> list[str]:
    """What a shell is told to offer for the last word."""
    zsh = {"_TYPER_COMPLETE_ARGS": words}
    bash = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    how = {"_GAUNTLET_COMPLETE": f"complete_{shell}", **(bash if shell == "bash" else zsh)}
    return CliRunner().invoke(app, [], prog_name="gauntlet", env=how).stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [("gauntlet retr", ["retrieval"]), ("gauntlet board --prev", ["--previous"]), ("gauntlet zzz", []),
     ("gauntlet export --to every", ["every-eval-ever"])],
)  # fmt: skip
def test_a_shell_is_told_what_fits(words: str, offered: list[str]) -> None:
    assert asked(words, "bash") == offered


def test_zsh_is_told_as_well() -> None:
    assert any("retrieval" in line for line in asked("gauntlet retr", "zsh"))


def test_a_script_for_the_shell_is_printed() -> None:
    told = CliRunner().invoke(app, [], prog_name="gauntlet", env={"_GAUNTLET_COMPLETE": "source_bash"}).stdout
    assert "complete -o default -F" in told and "_GAUNTLET_COMPLETE=complete_bash" in told
