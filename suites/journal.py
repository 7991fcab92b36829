"""The folder of outcomes: one JSON file a finished cell, one partial log a cell in flight. Append-only, kill-safe."""

import os
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict

from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.files import write_atomically
from vlm_gauntlet.fixtures.records import Cost, Outcome, Sample


class BatchResult(BaseModel):
    """What one batch of a cell gave: the unit that a kill can cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: tuple[Sample, ...]
    telemetry: dict[str, tuple[float, ...]]
    defence_cost: Cost
    attack_cost: Cost
    notes: tuple[str, ...]


class Journal:
    """Outcomes in a folder.

    Args:
        folder: made when the first outcome is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Outcome | None:
        """The finished outcome of a cell, if there is one."""
        path = self.folder / f"{key}.json"
        return _read(path) if path.is_file() else None

    def outcomes(self) -> list[Outcome]:
        """All finished outcomes, sorted by cell id and key.

        Raises:
            GauntletError: a file is truncated or does not validate; it names the file, the others are untouched.
        """
        found = [_read(path) for path in sorted(self.folder.glob("*.json"))]
        return sorted(found, key=lambda o: (o.cell.id, o.key))

    def lock(self, key: str) -> FileLock:
        """Held while a cell runs: of two processes that want it, the second waits and takes the first one's outcome."""
        place = self.folder / ".locks"
        place.mkdir(parents=True, exist_ok=True)
        return FileLock(place / key)

    def write(self, outcome: Outcome) -> None:
        """Stores a finished outcome, whole or not at all, and drops its partial log."""
        write_atomically(self.folder / f"{outcome.key}.json", (outcome.model_dump_json(indent=1) + "\n").encode())
        self._partial(outcome.key).unlink(missing_ok=True)

    def append(self, key: str, result: BatchResult) -> None:
        """Adds a batch to the cell's partial log, synced to disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._partial(key).open("ab") as file:
            file.write(result.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def batches(self, key: str) -> list[BatchResult]:
        """Batches that a killed run finished. A line cut by the kill is dropped: that batch runs again."""
        path = self._partial(key)
        if not path.is_file():
            return []
        lines = path.read_bytes().split(b"\n")
        whole, cut = lines[:-1], lines[-1]
        if cut:
            write_atomically(path, b"".join(line + b"\n" for line in whole))
        return [BatchResult.model_validate_json(line) for line in whole]

    def _partial(self, key: str) -> Path:
        return self.folder / f"{key}.partial.jsonl"


def _read(path: Path) -> Outcome:
    fix = "move the file away and run again: only its cell is computed, all others stay"
    with reading("an outcome", path, expected="a whole JSON outcome (`gauntlet schema`)", fix=fix):
        return Outcome.model_validate_json(path.read_bytes())
