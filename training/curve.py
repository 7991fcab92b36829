"""The losses of a training, a line a step, in a CSV file that survives a kill: no step twice, none missing."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import write_atomically, writing


class LossCurve:
    """Writes `phase,step,rate,loss,<terms>`; the loss is the sum of its terms.

    Args:
        path: None for a curve that nobody keeps.
        terms: names of the terms; one that a phase lacks stays empty.
        done: steps whose lines stand already; what follows them was lost with a kill, and is cut off.

    Raises:
        GauntletError: the file has fewer lines than steps were done, or other columns; or it cannot be written.
    """

    def __init__(self, path: Path | None, terms: Iterable[str], done: int = 0) -> None:
        self.terms = tuple(terms)
        self.file: TextIO | None = None
        if path is None:
            return
        header = _line(["phase", "step", "rate", "loss", *self.terms])
        fix = "restore it, or remove it and the .resume.safetensors beside it to start again"
        with reading("a loss curve", path, expected=f"{done} steps with {header.strip()}", fix=fix):
            kept = path.read_text(encoding="utf-8") if done and path.is_file() else header
        lines = kept.splitlines(keepends=True)[: done + 1]
        if len(lines) != done + 1 or lines[0] != header or not lines[-1].endswith("\n"):
            raise GauntletError(
                f"a loss curve of {len(lines) - 1} steps", expected=f"{done} steps with {header.strip()}",
                where=str(path), fix=fix,
            )  # fmt: skip
        with self._writing(path):
            write_atomically(path, "".join(lines).encode())
            self.file = path.open("a", newline="")

    def add(self, phase: str, step: int, rate: float, terms: Mapping[str, float]) -> None:
        """Appends a step."""
        if self.file is not None:
            found = [f"{terms[name]:.9g}" if name in terms else "" for name in self.terms]
            with self._writing(Path(self.file.name)):
                self.file.write(_line([phase, str(step), f"{rate:.9g}", f"{sum(terms.values()):.9g}", *found]))

    def sync(self) -> None:
        """Everything that was added is on the disk."""
        if self.file is not None:
            with self._writing(Path(self.file.name)):
                self.file.flush()
                os.fsync(self.file.fileno())

    def close(self) -> None:
        """Syncs and closes."""
        if self.file is not None:
            with self._writing(Path(self.file.name)), self.file:
                self.sync()

    @staticmethod
    def _writing(path: Path) -> AbstractContextManager[None]:
        return writing(path, fix="make room, or choose another --out; the training goes on from its last saved state")


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
