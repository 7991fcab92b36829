"""Running one cell: attack, score, count the cost, read the indicators, write the outcome. Resumes after a kill."""

import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import torch

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Cell, Cost, Outcome, Provenance
from vlm_gauntlet.methods.late_files import joined

from .attacking import OUTSIDE, Attacker, Elsewhere, Here
from .batch import score_batch
from .cells import CellPlan
from .indicators import indicators_of
from .journal import BatchResult, Journal
from .metered import total
from .scoring import Scorer
from .versions import versions_here
from .witness import Witness


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
    with attacker(plan) as attacking:
        key = attacking.cell.key
        with journal.lock(key):
            return journal.find(key) or _run(plan, attacking, journal, progress, command)


def attacker(plan: CellPlan) -> AbstractContextManager[Attacker]:
    """Who attacks: a process of its own where the defence's code comes from outside."""
    return Elsewhere(plan) if plan.method.outside else nullcontext(Here(plan.load()))


def witness(plan: CellPlan, cell: Cell) -> AbstractContextManager[Scorer]:
    """Who scores the cell: the same defence, built afresh in another process."""
    limits = OUTSIDE if plan.method.outside else None
    return Witness(plan.method.name, plan.backbone_name, plan.device, digest=cell.method_digest, limits=limits)


def _run(
    plan: CellPlan, attacking: Attacker, journal: Journal, progress: Callable[[int, int], None] | None, command: str
) -> Outcome:
    cell = attacking.cell
    done = journal.batches(cell.key)
    with ExitStack() as stack:
        scorer: Scorer | None = None
        for index, batch in enumerate(plan.batches()):
            if index == len(done):
                scorer = scorer or stack.enter_context(witness(plan, cell))
                result = score_batch(attacking.asked, batch, attacking.attack(batch), scorer)
                if isinstance(scorer, Witness) and plan.method.outside:
                    result = result.model_copy(update={"files": joined(attacking.read(), scorer.read())})
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
    outcome = _outcome(plan, attacking, done, command=command or this_command())
    journal.write(outcome)
    return outcome


def _outcome(plan: CellPlan, attacking: Attacker, done: list[BatchResult], *, command: str) -> Outcome:
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
        notes=tuple(sorted({*plan.notes(), *chain.from_iterable(r.notes for r in done)})),
        provenance=Provenance(
            made=datetime.now(UTC).replace(microsecond=0),
            device=device_name(plan.device),
            versions=dict(versions_here()),
            command=command,
            batch_size=plan.batch_size,
            files=joined(*(r.files for r in done)),
        ),
    )


def _rounded(cost: Cost) -> Cost:
    return cost.model_copy(update={"seconds": round(cost.seconds, 3)})


def device_name(device: str) -> str:
    """What computed: the name of the GPU, or of the processor and its threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'' if threads == 1 else 's'}"


def this_command() -> str:
    """This process's own command line, as somebody would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
