"""The trainer of adversarial fine-tuning: one loop, resumable; a method brings its objective and recipe."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load, save
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import write_atomically
from vlm_gauntlet.fixtures.prompts import PromptSet

Objective = Callable[[Backbone, Tensor, Tensor, PromptSet, tuple[int, ...]], Tensor]
"""(student, images, labels, prompts, keys) -> scalar loss whose gradient trains the image tower."""


@dataclass(frozen=True)
class Recipe:
    """Optimiser and schedule: SGD with momentum, linear warm-up, cosine to zero, stepped per batch."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: int
    momentum: float = 0.9
    seed: int = 0
    save_every: int = 25

    def rate(self, step: int, total: int) -> float:
        """Learning rate at a step."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, total - self.warmup)))


def load_training_set(data: Dataset, size: int) -> tuple[Tensor, Tensor]:
    """All pictures of a split as bytes [N, 3, S, S] and their labels [N]."""
    images, labels = [], []
    for batch in data.batches(limit=10**9, batch_size=256, size=size):
        images.append((batch.images * 255).round().to(torch.uint8))
        labels.append(batch.labels)
    return torch.cat(images), torch.cat(labels)


def fine_tune(
    base: Backbone, data: Dataset, objective: Objective, recipe: Recipe, out: Path, *, progress: bool = True
) -> dict[str, Tensor]:
    """Trains a copy of the image tower and returns its trained parameters by name.

    Batch-norm statistics stay frozen. State is saved to `out` every `recipe.save_every` steps; a killed run resumes.
    """
    student = base.tuned({})
    weights = {name: p for name, p in student.clip.visual.named_parameters() if p.is_floating_point()}
    for parameter in weights.values():
        parameter.requires_grad_(True)
    images, labels = load_training_set(data, base.image_size)
    total = recipe.epochs * (len(images) // recipe.batch_size)
    optimiser = torch.optim.SGD(weights.values(), lr=recipe.learning_rate, momentum=recipe.momentum)
    state = _TrainingState(
        out.with_suffix(".resume.safetensors"), {**asdict(recipe), "data": data.digest, "base": base.digest}
    )
    first = state.restore(weights, optimiser)
    with _bar(progress) as bar:
        task = bar.add_task(out.stem, total=total, completed=first, loss=float("nan"))
        for step, index in _schedule(recipe, len(images), first, total):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step, total)
            keys = tuple(key_of(recipe.seed, step, i) for i in index.tolist())
            optimiser.zero_grad()
            batch = images[index].to(base.device).float() / 255
            loss = objective(student, batch, labels[index].to(base.device), data.prompts, keys)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            bar.update(task, advance=1, loss=loss.item())
            if (step + 1) % recipe.save_every == 0:
                state.save(step + 1, weights, optimiser)
    return {name: p.detach().clone() for name, p in weights.items()}


def _schedule(recipe: Recipe, n: int, first: int, total: int) -> Iterator[tuple[int, Tensor]]:
    per_epoch = n // recipe.batch_size
    for step in range(first, total):
        epoch, batch = divmod(step, per_epoch)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(key_of(recipe.seed, "epoch", epoch)))
        yield step, order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]


@dataclass
class _TrainingState:
    """Parameters, momentum and step in one file that is whole or absent."""

    path: Path
    recipe: dict[str, object]

    def save(self, step: int, weights: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
        momentum = {f"momentum.{n}": optimiser.state[p]["momentum_buffer"] for n, p in weights.items()}
        tensors = {
            k: v.detach().contiguous() for k, v in ({f"weight.{n}": p for n, p in weights.items()} | momentum).items()
        }
        write_atomically(
            self.path, save(tensors, {"recipe": json.dumps(self.recipe, sort_keys=True), "step": str(step)})
        )

    def restore(self, weights: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> int:
        if not self.path.is_file():
            return 0
        data = self.path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if json.loads(header["recipe"]) != json.loads(json.dumps(self.recipe)):
            raise GauntletError(
                "training state of another recipe", expected=json.dumps(self.recipe), where=str(self.path),
                fix="remove the file to start again, or give the recipe that made it",
            )  # fmt: skip
        tensors = load(data)
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(tensors[f"weight.{name}"])
                optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(parameter)
        return int(header["step"])


def _bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"), disable=not shown,
    )  # fmt: skip
