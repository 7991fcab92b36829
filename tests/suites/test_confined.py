"""A process with code from outside writes no file and opens no data set where it scores."""

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.datasets import EMBEDDED
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.suites.apart import Apart, Limits
from vlm_gauntlet.suites.confined import open_no_data


class Writer:
    """Leaves things behind."""

    def file(self, path: str) -> None:
        Path(path).write_text("what was asked")

    def tensor(self, path: str) -> None:
        torch.save(torch.ones(3), path)

    def folder(self, path: str) -> None:
        Path(path).mkdir()

    def link(self, path: str) -> None:
        os.symlink("what was asked", path)

    def late(self, path: str) -> int:
        sys.path.insert(0, path)
        found: int = import_module("imported_late").FOUND
        return found

    def print(self, path: str) -> str:
        print("a word")
        return "said"


class Reader:
    """Looks labels up."""

    def __init__(self) -> None:
        open_no_data()

    def data(self) -> int:
        return len(next(EMBEDDED.glob("*/classnames.txt")).read_text())

    def relative(self) -> int:
        os.chdir(EMBEDDED.parent)
        return len(next(Path("wds").glob("*/classnames.txt")).read_text())

    def code(self) -> int:
        return len(Path(__file__).read_text())


@pytest.mark.parametrize("what", ["file", "tensor", "folder", "link"])
def test_nothing_is_left_behind(what: str, tmp_path: Path) -> None:
    place = tmp_path / "kept"
    with Apart(Writer, what="a test", limits=Limits(files=False)) as other:
        with pytest.raises(GauntletError):
            other.ask(what, str(place))
        assert not os.path.lexists(place) or place.stat().st_size == 0
    with Apart(Writer, what="a test") as other:
        other.ask(what, str(place.with_name("allowed")))


def test_it_may_import_late(tmp_path: Path) -> None:
    """Whether or not Python would keep the module compiled."""
    (tmp_path / "imported_late.py").write_text("FOUND = 3")
    with Apart(Writer, what="a test", limits=Limits(files=False)) as other:
        assert other.ask("late", str(tmp_path)) == 3
    assert not (tmp_path / "__pycache__").exists()


def test_it_may_print() -> None:
    with Apart(Writer, what="a test", limits=Limits(files=False)) as other:
        assert other.ask("print", "") == "said"


@pytest.mark.parametrize("what", ["data", "relative"])
def test_where_it_scores_no_data_set_is_opened(what: str) -> None:
    with Apart(Reader, what="a test") as other:
        assert other.ask("code") > 0
        with pytest.raises(ContractError, match="opened where a defence is scored"):
            other.ask(what)
