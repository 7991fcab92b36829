"""The one training loop. A method says what is trained and what its loss is; all else is here.

Ranks and mixed precision: Lightning Fabric. It starts its ranks itself and keeps no global state; accelerate has a
singleton, and `accelerate launch --cpu --num_processes 2` ran one process without a word. One process needs neither.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vlm_gauntlet.fixtures.errors import ContractError, GauntletError, unknown_name

from .curve import LossCurve
from .engine import Engine, start_engine
from .recipe import Phase, Recipe
from .samples import Batch, Samples
from .state import (
    State,
    optimiser_state,
    random_state,
    read_state,
    restore_optimiser,
    restore_random,
    restore_weights,
)

ONE_GROUP = "all"
OPTIMISERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Training(ABC):
    """What a method adds to the loop.

    Attributes:
        terms: names of the terms that `loss` returns, in any phase.
        start: digest of what the training starts from.
        couples_batch: the loss is no mean over samples, so that a batch cannot be computed in parts.
    """

    terms: ClassVar[tuple[str, ...]]
    couples_batch: bool = False
    start: str

    @property
    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """Everything that some phase trains, by name."""

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        """Names of what a phase trains, by the group that its recipe may give a rate and a decay of its own."""
        return {ONE_GROUP: list(self.weights)}

    @abstractmethod
    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Named terms, scalars, means over the samples; their sum is minimised."""

    def after_step(self, phase: Phase) -> None:  # noqa: B027 - most methods need nothing here
        """What is done to the weights after each step; nothing by default."""


def fit(
    training: Training,
    recipe: Recipe,
    data: Samples,
    out: Path | None,
    *,
    engine: Engine | None = None,
    progress: bool = False,
) -> None:
    """Trains `training.weights` in place and leaves them as constants; a killed run goes on from its last saved state.

    Args:
        training: what is trained, and its loss.
        recipe: optimiser, schedule, batch, phases, precision.
        data: samples in the order of their seed.
        out: beside it lie `<stem>.resume.safetensors` and `<stem>.loss.csv`; None: nothing is kept.
        engine: device, ranks and precision; default: this process on the CPU, in the recipe's precision.
        progress: show a bar.

    Raises:
        GauntletError: the saved state is damaged or of another training, the batch cannot be split, too few samples.
    """
    engine = engine or start_engine(precision=recipe.precision)
    weights = training.weights
    identity = {"recipe": recipe.digest, "data": data.digest, "seed": str(data.seed), "start": training.start}
    kept = None if out is None else out.with_name(f"{out.stem}.resume.safetensors")
    saved = None if kept is None else read_state(kept, identity)
    lengths = [phase.length(len(data)) for phase in recipe.phases]
    if saved is not None:
        saved.refuse_beyond(lengths)
        restore_weights(weights, saved.weights)
    done = 0 if saved is None else sum(lengths[: saved.phase]) + saved.step
    writes = out is not None and engine.rank == 0
    curve = LossCurve(out.with_name(f"{out.stem}.loss.csv") if out and writes else None, training.terms, done)

    with closing(curve), _bar(progress and engine.rank == 0) as bar:
        task = bar.add_task(out.stem if out else "", total=sum(lengths), completed=done, loss=float("nan"))
        for number, (phase, length) in enumerate(zip(recipe.phases, lengths, strict=True)):
            if saved is not None and number < saved.phase:
                continue
            parts = _parts(training, phase, engine.ranks)
            optimiser, names = make_optimiser(training, phase)
            first = 0
            if saved is not None and number == saved.phase:
                first = saved.step
                restore_optimiser(optimiser, names, saved.optimiser, saved.values)
                restore_random(data.generators, saved.random)
                engine.restore_scale(saved.scale)
            prepared = engine.prepared(optimiser)
            for step, batch in zip(range(first, length), data.batches(phase.batch_size, first), strict=False):
                rates = set_rates(optimiser, phase, step, length)
                optimiser.zero_grad()
                terms = _gradients(training, phase, batch.parts(parts)[engine.rank :: engine.ranks], engine)
                engine.add_up(w.grad for w in weights.values() if w.grad is not None)
                if phase.clip is not None:
                    torch.nn.utils.clip_grad_norm_(weights.values(), phase.clip)
                prepared.step()
                training.after_step(phase)
                curve.add(phase.name, step, rates, terms)
                bar.update(task, advance=1, loss=sum(terms.values()))
                if writes and kept and ((step + 1) % recipe.save_every == 0 or step + 1 == length):
                    curve.sync()  # before the state: a line may be cut off later, a missing one cannot be made again
                    State(
                        number, step + 1, weights, *optimiser_state(optimiser, names), random_state(data.generators),
                        engine.scale(),
                    ).write(kept, identity)  # fmt: skip
    for tensor in weights.values():
        tensor.requires_grad_(False)
        tensor.grad = None


def make_optimiser(training: Training, phase: Phase) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimiser of a phase and the names of its parameters, in its order; marks them, and no others, as trained.

    Raises:
        GauntletError: the recipe speaks of a group that the training does not have.
    """
    options = phase.optimiser.model_dump(exclude={"name", "learning_rate", "groups"})
    groups, weights, own = training.groups(phase.name), training.weights, phase.optimiser.groups
    for name in own:
        if name not in groups:
            raise unknown_name("group of parameters", name, groups, f"optimiser.groups of phase {phase.name!r}")
    names = [name for group in groups.values() for name in group]
    for name, tensor in weights.items():
        tensor.requires_grad_(name in names)
        tensor.grad = None
    made = []
    for group, members in groups.items():
        chosen = own[group].model_dump(exclude_none=True) if group in own else {}
        peak = chosen.pop("learning_rate", phase.optimiser.learning_rate)
        made.append({"params": [weights[name] for name in members], "lr": peak, "peak": peak, **chosen})
    return OPTIMISERS[phase.optimiser.name](made, **options), names


def set_rates(optimiser: torch.optim.Optimizer, phase: Phase, step: int, length: int) -> float:
    """Sets each group's learning rate for a step; returns the first group's."""
    for group in optimiser.param_groups:
        group["lr"] = phase.schedule.rate(group["peak"], step, length)
    return float(optimiser.param_groups[0]["lr"])


def _gradients(training: Training, phase: Phase, parts: list[Batch], engine: Engine) -> dict[str, float]:
    """Adds the gradients of this rank's parts of a batch; returns the whole batch's terms."""
    found = {name: torch.zeros((), dtype=torch.float64, device=engine.device) for name in training.terms}
    for part in parts:
        with engine.autocast():
            terms = training.loss(part.to(engine.device), phase)
        if not terms.keys() <= found.keys():
            raise ContractError(
                f"terms {', '.join(terms)}", expected=f"some of: {', '.join(found)}",
                where=f"{type(training).__name__}.loss", fix="name them all in `terms`",
            )  # fmt: skip
        engine.backward(part.share * torch.stack(list(terms.values())).sum())
        for name, term in terms.items():
            found[name] += part.share * term.detach()
    engine.add_up(found.values())
    values = {name: found[name].item() for name in terms}
    if not math.isfinite(sum(values.values())):
        raise GauntletError(
            f"a loss that is not finite: {values}", expected="numbers", where=f"phase {phase.name!r}",
            fix="a smaller learning rate, or precision 32-true",
        )  # fmt: skip
    return values


def _parts(training: Training, phase: Phase, ranks: int) -> int:
    """In how many parts a batch is computed."""
    parts = phase.accumulate * ranks
    if parts > 1 and (training.couples_batch or parts > phase.batch_size):
        raise GauntletError(
            f"a batch in {parts} parts ({phase.accumulate} accumulated, {ranks} ranks)",
            expected="one part, since the loss compares the samples of a batch" if training.couples_batch
            else f"at most {phase.batch_size} parts, one sample each",
            where=f"phase {phase.name!r}", fix="accumulate = 1 and one rank" if training.couples_batch
            else "a larger batch, or fewer parts",
        )  # fmt: skip
    return parts


def _bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"), disable=not shown,
    )  # fmt: skip
