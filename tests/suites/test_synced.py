"""What is on disk after a power cut: a file is synced whole before its name says that it is there."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.files import write_atomically
from vlm_gauntlet.fixtures.records import Cost, Sample
from vlm_gauntlet.suites.journal import BatchResult, Journal

from ..leaderboard.factory import outcome

Event = tuple[str, int]


NAMES = ("fsync", -1)
"""A sync of a folder: the names in it are on disk."""


def _size(handle: int) -> int:
    state = os.fstat(handle)
    return -1 if stat.S_ISDIR(state.st_mode) else state.st_size


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Each sync and each rename, with the size that the file has at that moment: what is not flushed does not count."""
    seen: list[Event] = []

    def told(name: str, size: Callable[..., int]) -> None:
        kept = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, **k: (seen.append((name, size(*a))), kept(*a, **k))[1])

    told("fsync", _size)
    told("replace", lambda source, target: Path(source).stat().st_size)
    return seen


def batch(name: str) -> BatchResult:
    cost = Cost(forward=1, backward=1, seconds=0.1)
    sample = Sample(id=name, label=0, clean=1, attacked=0)
    return BatchResult(samples=(sample,), telemetry={}, defence_cost=cost, attack_cost=cost, notes=())


@pytest.mark.parametrize("data", [b"a few bytes", b"x" * 3_000_000])
def test_a_file_is_synced_whole_and_then_renamed(data: bytes, tmp_path: Path, events: list[Event]) -> None:
    write_atomically(tmp_path / "file", data)
    assert events == [("fsync", len(data)), ("replace", len(data)), NAMES]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_batch_is_synced_whole_before_the_next_begins(tmp_path: Path, events: list[Event]) -> None:
    journal, sizes = Journal(tmp_path), []
    for name in ("a", "b"):
        journal.append("k", batch(name))
        sizes.append(journal.partial("k").stat().st_size)
    assert events == [("fsync", sizes[0]), NAMES, ("fsync", sizes[1])] and 0 < sizes[0] < sizes[1]
    assert journal.batches("k") == [batch("a"), batch("b")]


def test_batches_go_only_when_their_outcome_is_in_its_place(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = outcome("10")
    journal = Journal(tmp_path)
    journal.append(done.key, batch("a"))
    events.clear()
    kept = os.replace

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        journal.write(done)
    assert journal.find(done.key) is None and journal.batches(done.key) == [batch("a")]
    monkeypatch.setattr(os, "replace", kept)
    journal.write(done)
    assert [name for name, _ in events] == ["fsync", "fsync", "replace", "fsync"]
    assert events[-2][1] == events[-3][1] and events[-1] == NAMES
    assert journal.find(done.key) == done and not journal.partial(done.key).exists()


def test_a_line_cut_by_a_kill_goes_and_the_whole_ones_stay(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for name in ("a", "b"):
        journal.append("k", batch(name))
    whole = journal.partial("k").read_bytes()
    for cut in (1, len(whole) // 2 - 5):
        journal.partial("k").write_bytes(whole[:-cut])
        assert journal.batches("k") == [batch("a")]
        journal.append("k", batch("b"))
        assert journal.partial("k").read_bytes() == whole, "the next batch does not join the rest of a cut line"


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_loss_that_is_no_number_survives_a_kill(value: float, tmp_path: Path) -> None:
    """Else whoever goes on from there is told that the log does not validate, and loses all of its batches."""
    told = batch("a").model_copy(update={"telemetry": {"loss": (0.5, value)}})
    Journal(tmp_path).append("k", told)
    (found,) = Journal(tmp_path).batches("k")
    assert repr(found) == repr(told)
