"""What `gauntlet train --all` makes again: every checkpoint that the clone carries for a backbone, by its own pin."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import typer

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.methods.listed import HERE
from vlm_gauntlet.methods.registry import method, methods
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.pins import Pin, read_pins


@dataclass(frozen=True)
class Pinned:
    """A checkpoint of the clone.

    Args:
        method: id.
        switches: training deviations as they stand in names: `+variant=VLI`.
        pin: what is known of it.
    """

    method: str
    switches: str
    pin: Pin

    @property
    def name(self) -> str:
        """As the command line has it."""
        return self.method + self.switches


def trainable() -> list[str]:
    """Ids of the methods with a `train` module."""
    return [name for name in methods() if (HERE / name / "train.py").is_file()]


def pinned(backbone: str) -> Iterator[Pinned]:
    """The checkpoints on a backbone, by method."""
    for name in trainable():
        for key, pin in sorted(read_pins(HERE / name).items()):
            if key == backbone or key.startswith(f"{backbone}+"):
                yield Pinned(name, key.removeprefix(backbone), pin)


def train_all(backbone: str, data: Path, out: Path, *, seed: int, device: str, measure: bool = False) -> None:
    """Trains each into a folder of its own below `out`; what stands there already is not trained again.

    Tells of each whether it came out in the bytes that the clone carries: another processor rounds otherwise. Or trains
    none and measures what each would cost.

    Raises:
        GauntletError: no checkpoint on this backbone was trained on this data.
    """
    known = list(pinned(backbone))
    chosen = [one for one in known if one.pin.trained_on == data.name]
    if not chosen:
        places = sorted({one.pin.trained_on for one in known})
        raise GauntletError(
            f"nothing on {backbone} that was trained on {data.name!r}",
            expected=f"data named {', '.join(places) or '(no checkpoint on this backbone)'}", where="--data",
            fix="train one method: gauntlet train METHOD --backbone BACKBONE --data DIR",
        )  # fmt: skip
    for one in chosen:
        job = _job(one, backbone, data, out / one.method, seed=seed, device=device, measure=measure)
        train = import_module(f"vlm_gauntlet.methods.{one.method}.train").train
        if measure:
            typer.echo(f"# methods/{one.method}/measured.toml")
            train(job)
            continue
        if job.path.is_file():
            typer.echo(f"{one.name}: stands in {job.path}")
        else:
            train(job)
        same = sha256(job.path.read_bytes()) == one.pin.sha256
        typer.echo(f"{one.name}: {'the bytes of the clone' if same else 'other bytes than those of the clone'}")
    for one in known:
        if one not in chosen:
            typer.echo(f"{one.name}: not trained, since it was made on {one.pin.trained_on}")


def _job(one: Pinned, backbone: str, data: Path, out: Path, *, seed: int, device: str, measure: bool) -> TrainingJob:
    asked = _options(one.pin.command)
    return TrainingJob(
        one.method, HERE / one.method, backbone, data, out, seed=seed, device=device, wanted=asked.get("--recipe"),
        epochs=int(asked["--epochs"]) if "--epochs" in asked else None,
        shots=int(asked["--shots"]) if "--shots" in asked else None, deviations=method(one.name).deviations,
        measure=measure,
    )  # fmt: skip


def _options(command: str) -> dict[str, str]:
    """`gauntlet train m --shots 4` -> {"--shots": "4"}."""
    words = shlex.split(command)
    return {word: value for word, value in pairwise(words) if word.startswith("--")}
