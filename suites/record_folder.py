"""A folder of records: one JSON file a finished run, one partial log a run in flight. Append-only, kill-safe."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel

from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import LARGEST, read_plain, sync_names, write_atomically, writing
from vlm_gauntlet.fixtures.parts import is_there

LONGEST_LOG = 16 * LARGEST
"""Bytes of a partial log: it holds more of a batch than its record will."""
BESIDE = ".verified.json"
"""End of the names of files that speak of a record and are none: see `suites/verification_records.py`."""


class BusyError(Exception):
    """Another process runs this cell; its key is the message."""


class Named(Protocol):
    """What was run, in a word that people read."""

    @property
    def id(self) -> str:
        """Readable; not unique."""


class Record(Protocol):
    """A finished run: a pydantic model with its key."""

    @property
    def key(self) -> str:
        """Digest of everything that may change the result."""

    @property
    def cell(self) -> Named:
        """What was run."""

    @property
    def bits_digest(self) -> str:
        """Digest of the results alone: equal for equal results, whatever the clock says."""

    @classmethod
    def model_validate_json(cls, json_data: bytes, *, strict: bool) -> Self:
        """As pydantic does."""

    def model_dump_json(self, *, indent: int) -> str:
        """As pydantic does."""


R = TypeVar("R", bound=Record)
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True)
class SetAside:
    """A file that is not counted, and why, in words."""

    path: Path
    reason: str


def conflict(same: Sequence[tuple[Path, R]]) -> list[SetAside]:
    """Files of one key whose results differ, all of them: no one of them is believed. None where they agree."""
    if len({record.bits_digest for _, record in same}) == 1:
        return []
    names = ", ".join(path.name for path, _ in same)
    return [SetAside(path, f"files of one key with different results: {names}") for path, _ in same]


def repeated(same: Sequence[tuple[Path, R]]) -> list[SetAside]:
    """The files after the first of those that hold one record."""
    return [SetAside(path, f"the same record as {same[0][0].name}: it counts once") for path, _ in same[1:]]


class RecordFolder(Generic[R, B]):
    """Finished records of type R, and batches of type B of the runs in flight.

    Args:
        folder: made when the first batch or record is written.
    """

    record: type[R]
    batch: type[B]
    name: ClassVar[str]
    schema: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> R | None:
        """The finished record of a key, if there is one."""
        path = self.folder / f"{key}.json"
        return self.read(path) if is_there(path) else None

    def outcomes(self) -> list[R]:
        """All finished records, sorted by cell id and key.

        Raises:
            GauntletError: a file is truncated or does not validate, or two of one key differ; it names the file, the
                others are untouched.
        """
        found: dict[str, R] = {}
        for path in self._files():
            record = self.read(path)
            if found.setdefault(record.key, record).bits_digest != record.bits_digest:
                raise GauntletError(
                    f"files of one key, {record.key}, with different results", expected="one result a cell",
                    where=str(path), fix="find out which one is right (gauntlet verify FILE), and move the other away",
                )  # fmt: skip
        return sorted(found.values(), key=lambda o: (o.cell.id, o.key))

    def read_all(self) -> tuple[list[R], list[SetAside]]:
        """The finished records that can be counted, sorted as above, and the files that cannot, sorted by path.

        A record counts once, under the name of its key if several files hold it. Where files of one key hold different
        results, no one of them is believed.
        """
        held, aside = self.held()
        good: list[R] = []
        for same in held.values():
            if clash := conflict(same):
                aside += clash
            else:
                good.append(same[0][1])
                aside += repeated(same)
        return sorted(good, key=lambda o: (o.cell.id, o.key)), sorted(aside, key=lambda a: a.path)

    def held(self) -> tuple[dict[str, list[tuple[Path, R]]], list[SetAside]]:
        """The readable records with their files by key, first the file that the key names; and the unreadable files."""
        by_key: dict[str, list[tuple[Path, R]]] = defaultdict(list)
        aside: list[SetAside] = []
        for path in self._files():
            try:
                record = self.read(path)
            except GauntletError as error:
                aside.append(SetAside(path, error.came))
            else:
                by_key[record.key].append((path, record))
        return {k: sorted(same, key=lambda pair: (pair[0].stem != k, pair[0])) for k, same in by_key.items()}, aside

    @contextmanager
    def lock(self, key: str, *, wait: bool = True) -> Iterator[None]:
        """Held while a cell runs: of two processes that want it, the second waits and takes the first one's outcome.

        Raises:
            BusyError: another process holds it, and the caller does not want to wait.
        """
        place = self.folder / ".locks"
        with self._writing(place):
            place.mkdir(parents=True, exist_ok=True)
            (place / key).touch()
        held = FileLock(place / key)
        try:
            held.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise BusyError(key) from None
        try:
            yield
        finally:
            held.release()

    def write(self, outcome: R) -> None:
        """Stores a finished record, whole or not at all, and drops its partial log.

        Raises:
            GauntletError: the disk is full, or the folder cannot be written.
        """
        path = self.folder / f"{outcome.key}.json"
        with self._writing(path):
            write_atomically(path, (outcome.model_dump_json(indent=1) + "\n").encode())
            self.partial(outcome.key).unlink(missing_ok=True)

    def append(self, key: str, result: B) -> None:
        """Adds a batch to the partial log, synced to disk.

        Raises:
            GauntletError: the disk is full, or the folder cannot be written.
        """
        with self._writing(self.partial(key)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.partial(key).open("ab") as file:
                first = file.tell() == 0
                file.write(result.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if first:
                sync_names(self.folder)

    def batches(self, key: str) -> list[B]:
        """Batches that a killed run finished. A line cut by the kill is dropped: that batch runs again."""
        path = self.partial(key)
        if not is_there(path):
            return []
        with reading("a partial log", path, expected="one batch a line", fix="remove the file and run again"):
            lines = read_plain(path, LONGEST_LOG).split(b"\n")
        whole, cut = lines[:-1], lines[-1]
        if cut:
            with self._writing(path):
                write_atomically(path, b"".join(line + b"\n" for line in whole))
        with reading("a partial log", path, expected="one batch a line", fix="remove the file and run again"):
            return [self.batch.model_validate_json(line) for line in whole]

    def partial(self, key: str) -> Path:
        """Where the batches of a run in flight lie."""
        return self.folder / f"{key}.partial.jsonl"

    def _files(self) -> Iterator[Path]:
        yield from (path for path in sorted(self.folder.glob("*.json")) if not path.name.endswith(BESIDE))

    def read(self, path: Path) -> R:
        """The record of one file.

        Raises:
            GauntletError: it is not there, truncated, or does not validate.
        """
        fix = "move the file away and run again: only its cell is computed, all others stay"
        with reading(self.name, path, expected=f"a whole JSON outcome (`{self.schema}`)", fix=fix):
            return self.record.model_validate_json(read_plain(path), strict=True)

    def _writing(self, path: Path) -> AbstractContextManager[None]:
        return writing(path, fix="make room or choose another --outcomes; the same command goes on from there")
