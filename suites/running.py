"""Running one cell: attack, score, count the cost, read the indicators, write the outcome. Resumes after a kill."""

import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.device import device_name
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Cell, Cost, Maker, Outcome, Provenance
from vlm_gauntlet.methods.late_files import joined

from .attacking import OUTSIDE, Attacker, Elsewhere, Here
from .batch import score_batch
from .cells import CellPlan
from .clean_answers import CleanAnswers
from .device_record import system_of
from .halving import Done, within_memory
from .indicators import indicators_of
from .journal import BatchResult, Journal
from .kept_images import KeptImages
from .maker import maker_here
from .metered import total
from .scoring import Scorer
from .versions import versions_here
from .witness import Witness


class Keeper(Protocol):
    """Who keeps the attacked images of a cell: see `archive.py`."""

    def add(self, key: str, index: int, batch: Batch, attacked: Tensor) -> None:
        """Keeps those of one batch."""

    def check(self, key: str, index: int) -> None:
        """Raises GauntletError unless those of a batch that an earlier run finished are kept."""

    def finish(self, outcome: Outcome) -> None:
        """Makes one archive of all batches."""


def run_cell(
    plan: CellPlan,
    journal: Journal,
    *,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
    keeper: Keeper | None = None,
    maker: Maker | None = None,
    wait: bool = True,
    clean: CleanAnswers | None = None,
    notes: tuple[str, ...] = (),
    kept: KeptImages | None = None,
) -> Outcome:
    """Runs a cell, or takes it from the journal.

    Args:
        plan: what to run.
        journal: where finished cells and batches lie.
        progress: called with (samples done, samples in all) after each batch.
        command: what to print as the way to run it again; default: this process's own command line.
        keeper: who keeps the attacked images; default: nobody.
        maker: who says to run it; default: what the environment says.
        wait: until another process has run it, where one does.
        clean: the clean answers of the cells before, of the same run; default: each cell asks for itself.
        notes: that the outcome carries beside its own.
        kept: where images attacked on the undefended model lie; default: each cell makes its own.

    Raises:
        BusyError: another process runs it, and the caller does not want to wait.
        UnavailableError: weights, data or a checkpoint are missing: the cell is `not run`.
    """
    maker = maker or maker_here()
    with attacker(plan) as attacking:
        key = attacking.cell.key
        with journal.lock(key, wait=wait):
            return journal.find(key) or _run(
                plan, attacking, journal, progress, command, keeper, maker, clean, notes, kept
            )


def attacker(plan: CellPlan) -> AbstractContextManager[Attacker]:
    """Who attacks: a process of its own where the defence's code comes from outside."""
    return Elsewhere(plan) if plan.method.outside else nullcontext(Here(plan.load()))


def witness(plan: CellPlan, cell: Cell) -> AbstractContextManager[Scorer]:
    """Who scores the cell: the same defence, built afresh in another process."""
    limits = OUTSIDE if plan.method.outside else None
    return Witness(plan.method.name, plan.backbone_name, plan.device, digest=cell.method_digest, limits=limits)


def _run(
    plan: CellPlan,
    attacking: Attacker,
    journal: Journal,
    progress: Callable[[int, int], None] | None,
    command: str,
    keeper: Keeper | None,
    maker: Maker,
    clean: CleanAnswers | None,
    notes: tuple[str, ...],
    kept: KeptImages | None,
) -> Outcome:
    cell = attacking.cell
    done = journal.batches(cell.key)
    shared = None if plan.method.outside else clean
    with ExitStack() as stack:
        scorer: Scorer | None = None

        def one(part: Batch) -> Done:
            nonlocal scorer
            scorer = scorer or stack.enter_context(witness(plan, cell))
            try:
                if kept is not None and isinstance(attacking, Here):
                    made = kept.once(cell, attacking.loaded.evaluation, part, partial(attacking.attack, part))
                else:  # code from outside gets nothing from the store, and gives nothing to it
                    made = attacking.attack(part)
                once = None if shared is None else partial(shared.once, cell, attacking.asked, part)
                result = score_batch(attacking.asked, part, made, scorer, once)
            except GauntletError:  # who answers from another process has ended it
                scorer = None
                raise
            if isinstance(scorer, Witness) and plan.method.outside:
                result = result.model_copy(update={"files": joined(attacking.read(), scorer.read())})
            return Done(made.images, result)

        for index, batch in enumerate(plan.batches()):
            if index == len(done):
                made = within_memory(batch, one, whole=cell.batch_size is not None or plan.method.outside)
                if keeper and made.images is not None:
                    keeper.add(cell.key, index, batch, made.images)
                journal.append(cell.key, made.result)
                done.append(made.result)
            elif tuple(sample.id for sample in done[index].samples) != batch.ids:
                raise GauntletError(
                    f"a partial log with a batch of {len(done[index].samples)}",
                    expected=f"batches of {plan.batch_size}, as this run asks", where=str(journal.partial(cell.key)),
                    fix="use the same --batch-size, or remove the file",
                )  # fmt: skip
            elif keeper:
                keeper.check(cell.key, index)
            if progress:
                progress(sum(len(r.samples) for r in done[: index + 1]), plan.limit)
    outcome = _outcome(plan, attacking, done, command=command or this_command(), maker=maker, notes=notes)
    if keeper:
        keeper.finish(outcome)
    journal.write(outcome)
    return outcome


def _outcome(
    plan: CellPlan, attacking: Attacker, done: list[BatchResult], *, command: str, maker: Maker, notes: tuple[str, ...]
) -> Outcome:
    cell, asked = attacking.cell, attacking.asked
    return Outcome(
        key=cell.key,
        cell=cell,
        draws=asked.draws,
        confirming=asked.confirming,
        samples=tuple(chain.from_iterable(r.samples for r in done)),
        defence_cost=_rounded(total([r.defence_cost for r in done])),
        attack_cost=_rounded(total([r.attack_cost for r in done])),
        indicators=tuple(indicators_of(cell.protocol, done, draws=asked.draws)),
        notes=tuple(sorted({*notes, *plan.notes(), *chain.from_iterable(r.notes for r in done)})),
        provenance=Provenance(
            made=datetime.now(UTC).replace(microsecond=0),
            device=device_name(plan.device),
            versions={**versions_here(), **system_of(plan.device)},
            command=command,
            batch_size=plan.batch_size,
            files=joined(*(r.files for r in done)),
            maker=maker,
        ),
    )


def _rounded(cost: Cost) -> Cost:
    return cost.model_copy(update={"seconds": round(cost.seconds, 3)})


def this_command() -> str:
    """This process's own command line, as somebody would type it."""
    called = Path(sys.argv[0])
    name = called.parent.name if called.name == "__main__.py" else called.name  # python -m pytest
    return shlex.join([name, *sys.argv[1:]])
