"""Runs many cells in this process, one after the other: whatever happens to one, the others run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.clean_answers import CleanAnswers
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.planning.work import key_of
from vlm_gauntlet.suites.record_folder import BusyError

from .ends import BY_HAND, TIME_OVER, Asked, CellEnd, Progress, end_of


def run_cells(
    cells: Sequence[CellPlan],
    journal: Journal,
    asked: Asked | None = None,
    *,
    seconds: float | None = None,
    begun: Callable[[CellPlan], None] = lambda _: None,
    progress: Progress = lambda *_: None,
    told: Callable[[CellEnd], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[CellEnd]:
    """Runs cells in their order, those that another process has at last; an interrupt ends the run, nothing else does.

    Args:
        cells: what to run.
        journal: where finished cells lie.
        asked: how.
        seconds: no cell is begun after so many.
        begun: gets each cell when it begins.
        progress: called with (samples done, samples in all) of the cell that runs.
        told: gets the end of each cell at once.
        clock: in seconds.

    Returns: one end a cell, as they came.
    """
    start, ends, stopped, clean = clock(), [], "", CleanAnswers()
    busy: list[CellPlan] = []
    for wait, cell in chain(((False, cell) for cell in cells), ((True, cell) for cell in busy)):
        if not stopped and seconds is not None and clock() - start >= seconds:
            stopped = TIME_OVER
        if stopped:
            end = CellEnd(key_of(cell), "not reached", stopped)
        else:
            began = clock()
            begun(cell)
            try:
                end = end_of(cell, journal, asked or Asked(), wait=wait, progress=progress, clean=clean)
            except BusyError:  # another process has it: first what nobody has
                busy.append(cell)
                continue
            except KeyboardInterrupt:
                stopped = BY_HAND
                end = CellEnd(key_of(cell), "not reached", stopped)
            end = replace(end, seconds=round(clock() - began, 3))
        ends.append(end)
        told(end)
    return ends
