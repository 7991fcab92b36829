"""A folder of records: one JSON file a finished run, one partial log a run in flight. Append-only, kill-safe."""

import os
from pathlib import Path
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from filelock import FileLock
from pydantic import BaseModel

from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.files import write_atomically


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

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> Self:
        """As pydantic does."""

    def model_dump_json(self, *, indent: int) -> str:
        """As pydantic does."""


R = TypeVar("R", bound=Record)
B = TypeVar("B", bound=BaseModel)


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
        return self._read(path) if path.is_file() else None

    def outcomes(self) -> list[R]:
        """All finished records, sorted by cell id and key.

        Raises:
            GauntletError: a file is truncated or does not validate; it names the file, the others are untouched.
        """
        found = [self._read(path) for path in sorted(self.folder.glob("*.json"))]
        return sorted(found, key=lambda o: (o.cell.id, o.key))

    def lock(self, key: str) -> FileLock:
        """Held while a cell runs: of two processes that want it, the second waits and takes the first one's outcome."""
        place = self.folder / ".locks"
        place.mkdir(parents=True, exist_ok=True)
        return FileLock(place / key)

    def write(self, outcome: R) -> None:
        """Stores a finished record, whole or not at all, and drops its partial log."""
        write_atomically(self.folder / f"{outcome.key}.json", (outcome.model_dump_json(indent=1) + "\n").encode())
        self.partial(outcome.key).unlink(missing_ok=True)

    def append(self, key: str, result: B) -> None:
        """Adds a batch to the partial log, synced to disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.partial(key).open("ab") as file:
            file.write(result.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def batches(self, key: str) -> list[B]:
        """Batches that a killed run finished. A line cut by the kill is dropped: that batch runs again."""
        path = self.partial(key)
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")
        whole, cut = lines[:-1], lines[-1]
        if cut:
            write_atomically(path, b"".join(line + b"\n" for line in whole))
        with reading("a partial log", path, expected="one batch a line", fix="remove the file and run again"):
            return [self.batch.model_validate_json(line) for line in whole]

    def partial(self, key: str) -> Path:
        """Where the batches of a run in flight lie."""
        return self.folder / f"{key}.partial.jsonl"

    def _read(self, path: Path) -> R:
        fix = "move the file away and run again: only its cell is computed, all others stay"
        with reading(self.name, path, expected=f"a whole JSON outcome (`{self.schema}`)", fix=fix):
            return self.record.model_validate_json(path.read_bytes())
