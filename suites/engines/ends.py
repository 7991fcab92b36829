"""What becomes of a cell: it runs, is taken, cannot run here, or fails; nothing that it does ends those behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.parts import failure
from vlm_gauntlet.fixtures.records import Maker, Outcome
from vlm_gauntlet.suites.archive import keeper_of
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.clean_answers import CleanAnswers
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.kept_images import KeptImages
from vlm_gauntlet.suites.planning.work import key_of
from vlm_gauntlet.suites.record_folder import BusyError
from vlm_gauntlet.suites.running import run_cell

Word = Literal["ran", "taken", "not run", "failed", "not reached"]
WORDS: tuple[Word, ...] = ("ran", "taken", "not run", "failed", "not reached")
Progress = Callable[[int, int], None]
TIME_OVER = "the time was over"
BY_HAND = "stopped by hand; the same command goes on from the batch in flight"


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
        error: what went wrong, where it failed.
    """

    key: str
    word: Word
    reason: str = ""
    seconds: float = 0.0
    outcome: Outcome | None = None
    error: GauntletError | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Asked:
    """How cells are run.

    Args:
        maker: who says to run them.
        archive: whether attacked images are kept.
        command: that outcomes name; default: this process's own.
        notes: that each outcome carries beside its own.
        kept_bytes: of the images attacked on the undefended model that are kept for other cells and runs; 0: none.
    """

    maker: Maker = "unknown"
    archive: bool = False
    command: str = ""
    notes: tuple[str, ...] = ()
    kept_bytes: int = 0


def end_of(
    cell: CellPlan,
    journal: Journal,
    asked: Asked,
    *,
    wait: bool,
    progress: Progress = lambda *_: None,
    clean: CleanAnswers | None = None,
) -> CellEnd:
    """Runs a cell; `clean` as in `running.run_cell`.

    Raises:
        BusyError: another process has it, and the caller does not want to wait.
        KeyboardInterrupt: somebody stopped it.
    """
    keeper = keeper_of(journal.folder, cell.protocol, wanted=asked.archive)
    batches = 0

    def counted(done: int, of: int) -> None:
        nonlocal batches
        batches += 1
        progress(done, of)

    try:
        outcome = run_cell(
            cell, journal, progress=counted, keeper=keeper, maker=asked.maker, command=asked.command, wait=wait,
            clean=clean, notes=asked.notes, kept=KeptImages(limit=asked.kept_bytes) if asked.kept_bytes else None,
        )  # fmt: skip
    except BusyError:
        raise
    except UnavailableError as reason:
        return CellEnd(key_of(cell), "not run", f"{reason.came}; {reason.fix}")
    except Exception as error:  # the code of a defence may raise anything
        return failed(cell, failure(error))
    return CellEnd(key_of(cell), "ran" if batches else "taken", outcome=outcome)


def failed(cell: CellPlan, error: GauntletError) -> CellEnd:
    """The end of a cell that something went wrong with."""
    return CellEnd(key_of(cell), "failed", f"{error.came} ({error.where}); {error.fix}", error=error)
