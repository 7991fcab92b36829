"""Running one cell: attack, score, count the cost, read the indicators, write the outcome. Resumes after a kill."""

import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import torch

from vlm_gauntlet import attacks
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Dataset, dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Cell, Cost, Outcome, Provenance
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method, method

from .batch import run_batch
from .journal import BatchResult, Journal
from .reading import indicators_of
from .runnable import protocols_named

VERSIONS = ("vlm-gauntlet", "torch", "torchvision", "open_clip_torch", "pyautoattack", "numpy")


@dataclass(frozen=True)
class CellPlan:
    """A cell before anything heavy was loaded."""

    method: Method
    backbone_name: str
    dataset_name: str
    protocol: Protocol
    limit: int
    seed: int
    device: str
    batch_size: int

    @property
    def id(self) -> str:
        """Stable, readable, selectable by `-k`."""
        return f"{self.method.label}-{self.backbone_name}-{self.dataset_name}-{self.protocol.id}"

    @property
    def missing_part(self) -> str:
        """The part that the attack needs and the defence lacks, such as `unrolled`; empty where it has it."""
        asked = self.protocol
        needed = {"unrolled": asked.gradient == "unrolled", "alarm": asked.evasion > 0, "branches": asked.branches > 0}
        return next((part for part, wanted in needed.items() if wanted and not self.method.defence.offers(part)), "")

    def load(self) -> tuple[Defence, Dataset, Cell]:
        """Loads backbone and data set, builds the defence.

        Raises:
            UnavailableError: weights, data or the words of an attack on text are not on this machine.
        """
        backbone, data = load_backbone(self.backbone_name, self.device), dataset(self.dataset_name)
        if data.retrieval:
            raise GauntletError(
                f"{data.name!r} is a retrieval set", expected="a classification set", where="--dataset",
                fix="choose another data set",
            )  # fmt: skip
        defence = self.method.build(backbone).to(self.device)
        coupled = defence.batch_coupled or self.protocol.reduction == "mean"
        text = self.protocol.text
        cell = Cell(
            method=self.method.label, method_digest=self.method.digest, backbone=backbone.name,
            backbone_digest=backbone.digest, dataset=data.name, dataset_digest=data.digest,
            prompts_digest=data.prompted(self.protocol.prompts).digest, protocol=self.protocol,
            text_source_digest=build_source(text).digest if text else "", seed=self.seed, limit=self.limit,
            batch_size=self.batch_size if coupled else None, code_digest=code_digest(),
        )  # fmt: skip
        return defence, data, cell


def plan(
    methods: Sequence[str],
    backbone: str,
    datasets: Sequence[str],
    protocols: Sequence[str],
    *,
    limit: int,
    limits: Mapping[str, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int = 32,
) -> list[CellPlan]:
    """The matrix method x data set x protocol, sorted by id, without the cells whose attack the method has no part for.

    Args:
        methods, datasets, protocols: the three sides, by name.
        backbone: what all defences stand on.
        limit: first n samples of each data set.
        limits: other limits for single methods, by name.
        seed, device, batch_size: of every cell.

    Raises:
        GauntletError: an unknown method or protocol, with near misses; or no cell is left.
    """
    asked = [
        CellPlan(method(m), backbone, d, p, (limits or {}).get(m, limit), seed, device, batch_size)
        for m in methods
        for d in datasets
        for name in protocols
        for p in protocols_named(name, d)
    ]
    made = [cell for cell in asked if not cell.missing_part]
    if asked and not made:
        raise GauntletError(
            f"{asked[0].id}: the defence has no {asked[0].missing_part}", expected="a protocol that its parts allow",
            where="--protocol", fix=f"write {asked[0].missing_part}() in the defence, or choose another protocol",
        )  # fmt: skip
    return sorted(made, key=lambda p: p.id)


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
    undefended, prompts = method("undefended").build(backbone), data.prompted(protocol.prompts)
    native = protocol.threat.attack_resolution == "native"  # then the backbone alone resizes
    size = data.native_size if native else backbone.image_size
    batches = data.batches(
        limit=plan.limit, batch_size=plan.batch_size, size=size,
        preprocessing="resize-crop" if native else protocol.preprocessing,
    )  # fmt: skip
    done = journal.batches(cell.key)
    for index, batch in enumerate(batches):
        if index == len(done):
            result = run_batch(defence, undefended, prompts, batch, protocol, plan.seed)
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
    outcome = _outcome(plan, cell, done, randomised=defence.card.randomised, command=command or this_command())
    journal.write(outcome)
    return outcome


def _outcome(plan: CellPlan, cell: Cell, done: list[BatchResult], *, randomised: bool, command: str) -> Outcome:
    draws = cell.protocol.scoring_draws if randomised else 1
    return Outcome(
        key=cell.key,
        cell=cell,
        draws=draws,
        samples=tuple(chain.from_iterable(r.samples for r in done)),
        defence_cost=_total([r.defence_cost for r in done]),
        attack_cost=_total([r.attack_cost for r in done]),
        indicators=tuple(indicators_of(cell.protocol, done, draws=draws)),
        notes=tuple(sorted(set(chain.from_iterable(r.notes for r in done)))),
        provenance=Provenance(
            made=datetime.now(UTC).replace(microsecond=0),
            device=device_name(plan.device),
            versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
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


@cache
def code_digest() -> str:
    """Digest of the code that every cell depends on: attacks, and the contracts of the defences."""
    room = Path(attacks.__file__).parent
    common = ("base.py", "victims.py", "tuned.py", "prompt_tuning.py", "views.py")
    shared = [room.parent / "methods" / name for name in common] + [room.parent / "training" / "checkpoint.py"]
    own = [Path(__file__).parent / name for name in ("batch.py", "reading.py")]
    files = [*sorted(room.rglob("*.py")), *shared, *own]
    return sha256("".join(sha256(f.read_bytes()) for f in files).encode())
