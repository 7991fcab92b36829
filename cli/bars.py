"""Progress of a run on a terminal: cells done of all, samples done of the cell that runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .console import quiet

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vlm_gauntlet.suites.cells import CellPlan
    from vlm_gauntlet.suites.engines.ends import CellEnd


@dataclass(frozen=True)
class Bars:
    """What a runner tells, shown."""

    shown: "Progress"
    cells: "TaskID"
    samples: "TaskID"

    def begun(self, cell: "CellPlan") -> None:
        """A cell begins."""
        self.shown.update(self.samples, description=f"samples of {cell.id}", completed=0, total=cell.limit)

    def progress(self, done: int, _: int) -> None:
        """Samples of it are done."""
        self.shown.update(self.samples, completed=done)

    def told(self, _: "CellEnd") -> None:
        """A cell has ended."""
        self.shown.advance(self.cells)


@contextmanager
def bars(cells: int) -> Iterator[Bars]:
    """Shown while a run of so many cells lasts; nothing in a log."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True, disable=quiet()) as shown:
        yield Bars(shown, shown.add_task("cells", total=cells), shown.add_task(""))
