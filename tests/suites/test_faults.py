"""A full disk, a kill and a clock set back, at every call of the journal: what was acknowledged is there afterwards."""

import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures import records
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.journal import Journal

from ..leaderboard.factory import outcome
from .test_synced import batch

DONE = outcome("10")
CALLS = ((os, "open"), (os, "fsync"), (os, "replace"), (os, "chmod"), (os, "fdopen"), (tempfile, "mkstemp"),
         (Path, "open"), (Path, "mkdir"), (Path, "unlink"))  # fmt: skip
STEPS: tuple[Callable[[Journal], None], ...] = (
    lambda journal: journal.append(DONE.key, batch("a")),
    lambda journal: journal.append(DONE.key, batch("b")),
    lambda journal: journal.write(DONE),
)
MOST = 40  # more calls than the steps make


def at_call(number: int, patch: pytest.MonkeyPatch, happens: Callable[[], None]) -> list[int]:
    """Something happens before the n-th call of the system from now on; how many there were."""
    count = [0]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def made(*given: object, **named: object) -> object:
            count[0] += 1
            if count[0] == number:
                happens()
            return call(*given, **named)

        return made

    for place, name in CALLS:
        patch.setattr(place, name, counted(getattr(place, name)))
    return count


def judge(journal: Journal, acknowledged: int) -> None:
    """What was acknowledged is there and whole, and the same steps lead to the end."""
    found, outcomes = journal.batches(DONE.key), journal.outcomes()
    assert outcomes in ([], [DONE])
    if acknowledged == 3:
        assert outcomes == [DONE]
    elif not outcomes:
        assert found[:acknowledged] == [batch("a"), batch("b")][:acknowledged], (acknowledged, found)
        journal.write(DONE)
    assert journal.find(DONE.key) == DONE


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_at_any_call_loses_nothing(tmp_path: Path) -> None:
    ended = 0
    for number in range(1, MOST):
        journal, acknowledged = Journal(tmp_path / str(number)), 0
        with pytest.MonkeyPatch.context() as patch:
            count = at_call(number, patch, full)
            with suppress(GauntletError):
                for step in STEPS:
                    step(journal)
                    acknowledged += 1
        judge(journal, acknowledged)
        assert not [path for path in journal.folder.iterdir() if path.name.startswith(".")], "no temporary file stays"
        ended += count[0] < number
    assert 5 < MOST - 1 - ended < MOST - 1, "each call failed once, and then none"


def in_a_child(work: Callable[[int], object]) -> tuple[int, int]:
    """Runs it in a fork of this process, which shares nothing but the disk; its bytes to a pipe, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            work(writer)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        acknowledged = len(told.read())
    return acknowledged, os.waitpid(child, 0)[1]


def test_a_kill_at_any_call_loses_nothing(tmp_path: Path) -> None:
    killed = 0
    for number in range(1, MOST):
        folder = tmp_path / str(number)

        def work(writer: int, number: int = number, folder: Path = folder) -> None:
            patch = pytest.MonkeyPatch()
            at_call(number, patch, lambda: os.kill(os.getpid(), signal.SIGKILL))
            for step in STEPS:
                step(Journal(folder))
                os.write(writer, b".")

        acknowledged, status = in_a_child(work)
        assert status in (0, signal.SIGKILL)
        judge(Journal(folder), acknowledged)
        killed += status != 0
        if status == 0:
            break
    assert 5 < killed < MOST - 1, "a kill before each call, and then none"


def test_eight_writers_of_one_store_tear_and_lose_nothing(tmp_path: Path) -> None:
    """Each writes outcomes of its own and those that all the others write, while somebody reads."""
    shared = [outcome("1011", seed=seed) for seed in range(100, 104)]

    def writer(own: int) -> None:
        journal, alone = Journal(tmp_path), [outcome("1" * 300, seed=10 * own + i) for i in range(3)]
        for made in (*shared[own % 4 :], *shared[: own % 4], *alone):
            with journal.lock(made.key):
                journal.append(made.key, batch(str(own)))
                journal.write(made)

    children = []
    for own in range(8):
        if (child := os.fork()) == 0:
            code = 1
            try:
                writer(own)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    waiting, looks = list(children), 0
    while waiting:
        Journal(tmp_path).outcomes()  # raises at a torn file
        looks += 1
        for child in list(waiting):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0
                waiting.remove(child)
    found = Journal(tmp_path).outcomes()
    assert {made.key for made in found} >= {made.key for made in shared} and len(found) == 4 + 8 * 3 and looks
    assert {path.name for path in tmp_path.iterdir()} == {".locks", *(f"{made.key}.json" for made in found)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[timedelta], None]]:
    """Sets the clock of the records."""

    class Set(datetime):
        ahead = timedelta(0)

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + cls.ahead

    def to(ahead: timedelta) -> None:
        Set.ahead = ahead

    monkeypatch.setattr(records, "datetime", Set)
    yield to


def test_a_clock_set_back_hides_no_batch_and_overwrites_no_outcome(
    tmp_path: Path, clock: Callable[[timedelta], None]
) -> None:
    journal, other = Journal(tmp_path), outcome("01", seed=7)
    journal.append(other.key, batch("a"))
    journal.write(DONE)
    whole = (tmp_path / f"{DONE.key}.json").read_bytes()
    clock(DONE.provenance.made - datetime.now(UTC) - timedelta(days=2))
    with pytest.raises(GauntletError, match="lies in the future"):
        journal.find(DONE.key)
    assert journal.batches(other.key) == [batch("a")], "a log knows no time"
    clock(timedelta(0))
    assert (tmp_path / f"{DONE.key}.json").read_bytes() == whole and journal.find(DONE.key) == DONE
