"""Runs many cells, one after the other: whatever happens to one, the others run, and what became of each is told."""

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.parts import failure
from vlm_gauntlet.fixtures.records import Maker, Outcome

from .archive import Archive, holds_images
from .cells import CellPlan
from .journal import Journal
from .planning.work import key_of
from .running import run_cell

Word = Literal["ran", "taken", "not run", "failed", "not reached"]
WORDS: tuple[Word, ...] = ("ran", "taken", "not run", "failed", "not reached")


@dataclass(frozen=True)
class CellEnd:
    """What became of a cell.

    Args:
        key: `planning.work.key_of` the cell.
        word: `ran`; `taken` from the folder; `not run`: weights, data or a device are not here; `failed`; `not
            reached`: the time was over, or somebody stopped it.
        reason: why, in words; empty where it ran.
        seconds: that it took here.
        outcome: what it gave.
    """

    key: str
    word: Word
    reason: str = ""
    seconds: float = 0.0
    outcome: Outcome | None = None


def run_cells(
    cells: Sequence[CellPlan],
    journal: Journal,
    *,
    maker: Maker = "unknown",
    archive: bool = False,
    seconds: float | None = None,
    told: Callable[[CellEnd], None] = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[CellEnd]:
    """Runs cells in their order; an interrupt ends the run, and nothing else does.

    Args:
        cells: what to run.
        journal: where finished cells lie.
        maker: who says to run them.
        archive: whether attacked images are kept.
        seconds: no cell is begun after so many.
        told: gets the end of each cell at once.
        progress: called with (samples done, samples in all) of the cell that runs.
        clock: in seconds.
    """
    start, ends, stopped = clock(), [], ""
    there = {path.name for path in journal.folder.glob("*.json")} if journal.folder.is_dir() else set[str]()
    for cell in cells:
        if not stopped and seconds is not None and clock() - start >= seconds:
            stopped = "the time was over"
        if stopped:
            end = CellEnd(key_of(cell), "not reached", stopped)
        else:
            begun = clock()
            try:
                end = _one(cell, journal, maker, archive, progress, there)
            except KeyboardInterrupt:
                stopped = "stopped by hand; the same command goes on from the batch in flight"
                end = CellEnd(key_of(cell), "not reached", stopped)
            end = CellEnd(end.key, end.word, end.reason, round(clock() - begun, 3), end.outcome)
        ends.append(end)
        told(end)
    return ends


def _one(
    cell: CellPlan,
    journal: Journal,
    maker: Maker,
    archive: bool,
    progress: Callable[[int, int], None] | None,
    there: Set[str],
) -> CellEnd:
    keeper = Archive(journal.folder) if archive and holds_images(cell.protocol) else None
    try:
        outcome = run_cell(cell, journal, progress=progress, keeper=keeper, maker=maker)
    except UnavailableError as reason:
        return CellEnd(key_of(cell), "not run", f"{reason.came}; {reason.fix}")
    except Exception as error:  # the code of a defence may raise anything
        wrong = failure(error)
        return CellEnd(key_of(cell), "failed", f"{wrong.came} ({wrong.where}); {wrong.fix}")
    return CellEnd(key_of(cell), "taken" if f"{outcome.key}.json" in there else "ran", outcome=outcome)
