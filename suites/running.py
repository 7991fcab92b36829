"""Running one cell: attack, score, count the cost, read the indicators, write the outcome. Resumes after a kill."""

import platform
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import torch

from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Cell, Cost, Outcome, Provenance
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method

from .batch import Evaluation, run_batch
from .cells import CellPlan
from .indicators import indicators_of
from .journal import BatchResult, Journal
from .versions import versions_here


def run_cell(
    plan: CellPlan, journal: Journal, *, progress: Callable[[int, int], None] | None = None, command: str = ""
) -> Outcome:
    """Runs a cell, or takes it from the journal.

    Args:
        plan: what to run.
        journal: where finished cells and batches lie.
        progress: called with (samples done, samples in all) after each batch.
        command: what to print as the way to run it again; default: this process's own command line.

    Raises:
        UnavailableError: weights, data or a checkpoint are missing: the cell is `not run`.
    """
    defence, data, cell = plan.load()
    with journal.lock(cell.key):
        return journal.find(cell.key) or _run(plan, cell, defence, data, journal, progress, command)


def _run(
    plan: CellPlan,
    cell: Cell,
    defence: Defence,
    data: Dataset,
    journal: Journal,
    progress: Callable[[int, int], None] | None,
    command: str,
) -> Outcome:
    backbone, protocol = defence.backbone, cell.protocol
    undefended, prompts = method("undefended").build(backbone), data.prompted(protocol.evaluation.prompts)
    native = protocol.threat.attack_resolution == "native"  # then the backbone alone resizes
    size = data.native_size if native else backbone.image_size
    batches = data.batches(
        limit=plan.limit, batch_size=plan.batch_size, size=size,
        preprocessing="resize-crop" if native else protocol.evaluation.preprocessing,
    )  # fmt: skip
    evaluation = Evaluation(defence, undefended, prompts, protocol, plan.seed)
    done = journal.batches(cell.key)
    for index, batch in enumerate(batches):
        if index == len(done):
            result = run_batch(evaluation, batch)
            journal.append(cell.key, result)
            done.append(result)
        elif tuple(sample.id for sample in done[index].samples) != batch.ids:
            raise GauntletError(
                f"a partial log with a batch of {len(done[index].samples)}",
                expected=f"batches of {plan.batch_size}, as this run asks", where=str(journal.partial(cell.key)),
                fix="use the same --batch-size, or remove the file",
            )  # fmt: skip
        if progress:
            progress(sum(len(r.samples) for r in done[: index + 1]), plan.limit)
    notes = data.checked().notes_for(plan.limit, native=size if native else 0)
    outcome = _outcome(plan, cell, done, draws=evaluation.draws, command=command or this_command(), notes=notes)
    journal.write(outcome)
    return outcome


def _outcome(
    plan: CellPlan, cell: Cell, done: list[BatchResult], *, draws: int, command: str, notes: tuple[str, ...]
) -> Outcome:
    return Outcome(
        key=cell.key,
        cell=cell,
        draws=draws,
        samples=tuple(chain.from_iterable(r.samples for r in done)),
        defence_cost=_total([r.defence_cost for r in done]),
        attack_cost=_total([r.attack_cost for r in done]),
        indicators=tuple(indicators_of(cell.protocol, done, draws=draws)),
        notes=tuple(sorted({*notes, *chain.from_iterable(r.notes for r in done)})),
        provenance=Provenance(
            made=datetime.now(UTC).replace(microsecond=0),
            device=device_name(plan.device),
            versions=dict(versions_here()),
            command=command,
            batch_size=plan.batch_size,
        ),
    )


def _total(costs: list[Cost]) -> Cost:
    return Cost(
        forward=sum(c.forward for c in costs),
        backward=sum(c.backward for c in costs),
        seconds=round(sum(c.seconds for c in costs), 3),
    )


def device_name(device: str) -> str:
    """What computed: the name of the GPU, or of the processor and its threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'' if threads == 1 else 's'}"


def this_command() -> str:
    """This process's own command line, as somebody would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
