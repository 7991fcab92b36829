"""Options of a run that say where it runs, in this process or on Ray, and where machines share what is finished."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .bars import bars
from .device import usable

if TYPE_CHECKING:
    from vlm_gauntlet.suites.cells import CellPlan
    from vlm_gauntlet.suites.engines.ends import Asked, CellEnd
    from vlm_gauntlet.suites.journal import Journal


class Engine(StrEnum):
    """What runs the cells."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[
    Engine, typer.Option("--engine", help="local: one cell after the other here; ray: on the machines that Ray holds")
]
Address = Annotated[str | None, typer.Option(help="of the Ray cluster; default: RAY_ADDRESS, else this machine alone")]
Store = Annotated[
    str | None,
    typer.Option(help="where machines share finished outcomes: a folder, or s3://bucket/folder (the extra `s3`)"),
]
KeepImages = Annotated[
    float,
    typer.Option(
        min=0, help="GiB of images attacked on the undefended model to keep for other defences; 0: each makes its own"
    ),
]
AnyDevice = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1; with --engine ray cpu or cuda")]


@dataclass(frozen=True)
class Where:
    """Where cells run, and where their outcomes go."""

    engine: Engine
    address: str | None
    folder: Path
    store: str | None = None

    def check(self, device: str) -> None:
        """Raises GauntletError where no cell can run on that device; of Ray's GPUs none needs to be here."""
        from vlm_gauntlet.fixtures.errors import GauntletError

        if self.engine is Engine.local:
            usable(device)
        elif device not in ("cpu", "cuda"):
            raise GauntletError(
                f"device {device!r} with --engine ray", expected="cpu, or cuda: Ray chooses which GPU",
                where="--device", fix="--device cuda",
            )  # fmt: skip

    @property
    def journal(self) -> "Journal":
        """Where finished cells lie."""
        from vlm_gauntlet.suites.shared_store import journal_at

        return journal_at(self.folder, self.store)

    def fetch(self) -> None:
        """Brings what machines finished before into the folder, so that a plan knows it."""
        from vlm_gauntlet.suites.shared_store import SharedJournal

        if self.store:
            typer.echo(f"{SharedJournal(self.folder, self.store).fetch()} outcomes came from {self.store}")

    def run(
        self,
        cells: "Sequence[CellPlan]",
        asked: "Asked",
        *,
        seconds: float | None = None,
        told: "Callable[[CellEnd], None]" = lambda _: None,
    ) -> "list[CellEnd]":
        """Runs cells with a bar: see `suites/engines/`. Ray gets the longest first, where no time ends the run."""
        from vlm_gauntlet.suites.engines.local import run_cells
        from vlm_gauntlet.suites.engines.on_ray import run_cells_on_ray
        from vlm_gauntlet.suites.planning.shards import longest_first

        with bars(len(cells)) as shown:

            def both(end: "CellEnd") -> None:
                shown.told(end)
                told(end)

            if self.engine is Engine.local:
                return run_cells(
                    cells, self.journal, asked, seconds=seconds, begun=shown.begun, progress=shown.progress, told=both
                )
            return run_cells_on_ray(
                longest_first(cells) if seconds is None else cells, self.folder, asked, store=self.store,
                address=self.address, seconds=seconds, told=both,
                lost=lambda cell, how: typer.echo(f"worker lost ({how}): {cell.id} begins again", err=True),
            )  # fmt: skip
