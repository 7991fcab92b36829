"""What `gauntlet train` asks of a method's `train` module, and how the result is named, written and pinned."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.device import device_name, seconds_on
from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.files import sha256, write_atomically, writing
from vlm_gauntlet.fixtures.parts import is_there

from .checkpoint import pin_text
from .cost import TrainingCost
from .engine import Engine, start_engine
from .loss_drawing import drawn_losses
from .measuring import timed_steps
from .pins import Pin
from .recipe import Recipe, find_recipe, read_recipe
from .samples import Samples, open_samples
from .trainer import Training, fit


@dataclass(frozen=True)
class TrainingJob:
    """One training, as asked for.

    Args:
        method: id of the method.
        folder: of the method; has its `recipes/` and `deviations.toml`.
        backbone: name of the model to start from.
        data: webdataset folder with a `train` split.
        out: folder for the result.
        epochs: of each phase; default: the recipe's.
        shots: samples of each class; default: the recipe's.
        wanted: name or file of the recipe; default: the backbone's, else the paper's.
        ranks: processes.
        deviations: switches of the method, as asked for; one at its default is as good as not named.
        progress: whether to show a bar.
        measure: a few steps are timed in place of the training, and nothing is written.
        report: what is said of the result goes there.
    """

    method: str
    folder: Path
    backbone: str
    data: Path
    out: Path
    epochs: int | None = None
    shots: int | None = None
    seed: int = 0
    device: str = "cpu"
    wanted: str | None = None
    ranks: int = 1
    deviations: Mapping[str, str] = field(default_factory=dict)
    progress: bool = True
    measure: bool = False
    report: Callable[[str], None] = print
    _began: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Starts the clock of what comes before the first step."""
        object.__setattr__(self, "_began", seconds_on(self.device))

    @cached_property
    def switches(self) -> dict[str, str]:
        """All switches of the method, each with its choice."""
        return self._defaults | dict(self.deviations)

    @cached_property
    def _defaults(self) -> dict[str, str]:
        path = self.folder / "deviations.toml"
        with reading("switches", path, expected="[[deviation]] with name and choices", fix="gauntlet doctor"):
            known = tomllib.loads(path.read_text(encoding="utf-8"))["deviation"] if is_there(path) else ()
            return {one["name"]: one["choices"][0] for one in known}

    @cached_property
    def _changed(self) -> dict[str, str]:
        """What the result is named by, as whoever looks for it names it: the switches that are not at their default."""
        return {name: choice for name, choice in self.deviations.items() if choice != self._defaults.get(name)}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with what was asked for in its place."""
        path = find_recipe(self.folder / "recipes", self.wanted, self.backbone)
        recipe = read_recipe(path, self._changed).lasting(epochs=self.epochs)
        return recipe if self.shots is None else recipe.model_copy(update={"shots": self.shots})

    @cached_property
    def engine(self) -> Engine:
        """What it runs on, started once."""
        return start_engine(self.device, ranks=self.ranks, precision=self.recipe.precision)

    @cached_property
    def base(self) -> Backbone:
        """The model to start from, on this rank's device."""
        return load_backbone(self.backbone, str(self.engine.device))

    @cached_property
    def dataset(self) -> Dataset:
        """The pictures to train on."""
        return Dataset(self.data.name, self.data, split="train")

    def samples(self, purpose: tuple[str, ...] = ("epoch",)) -> Samples:
        """The pictures in the order of the seed, as many of each class as the recipe says; see `InMemory`."""
        return open_samples(
            self.dataset, self.base.image_size, seed=self.seed, shots=self.recipe.shots,
            fresh_shots=self.recipe.fresh_shots, purpose=purpose,
        )  # fmt: skip

    def fit(self, training: Training, samples: Samples) -> None:
        """Trains, or goes on where a killed run stood; where the job only measures, says what it would cost."""
        if self.measure:
            return self._tell_cost(training, samples)
        fit(training, self.recipe, samples, self.path, engine=self.engine, progress=self.progress)

    def _tell_cost(self, training: Training, samples: Samples) -> None:
        before = seconds_on(self.device) - self._began
        steps = timed_steps(training, self.recipe, samples, self.engine)
        cost = TrainingCost(
            checkpoint=self.path.stem, device=device_name(str(self.engine.device)), steps=steps.count,
            seconds=float(f"{before + steps.seconds:.3g}"),
            parameters=sum(weight.numel() for weight in training.weights.values()), measured=datetime.now(UTC).date(),
        )  # fmt: skip
        self.say(cost.toml())

    @property
    def path(self) -> Path:
        """Where the result goes: `<backbone>+<switches that are not at their default>.safetensors`."""
        return self.out / f"{self.backbone}{self._switches}.safetensors"

    @property
    def command(self) -> str:
        """What makes the result again."""
        asked = {"epochs": self.epochs, "shots": self.shots, "recipe": self.wanted}
        options = "".join(f" --{name} {value}" for name, value in asked.items() if value is not None)
        named = f"{self.method}{self._switches}"
        return f"gauntlet train {named} --backbone {self.backbone} --data {self.data.name} --seed {self.seed}{options}"

    @property
    def _switches(self) -> str:
        return "".join(sorted(f"+{name}={choice}" for name, choice in self._changed.items()))

    def say(self, text: str) -> None:
        """Reports, once for all ranks."""
        if self.engine.rank == 0:
            self.report(text)

    def finish(self, content: bytes) -> Path:
        """Writes the result, draws its losses, reports its pin for `checkpoints.toml`, and removes the resume state.

        Where the job only measures, does none of it.
        """
        if self.engine.rank == 0 and not self.measure:
            with writing(self.path, fix="make room, or choose another --out; the same command ends the training"):
                write_atomically(self.path, content)
            pin = Pin(
                sha256=sha256(content), size=len(content), base=self.base.digest, command=self.command,
                trained_on=self.data.name,
            )  # fmt: skip
            self.say(pin_text(self.path.stem, pin))
            if (losses := self.path.with_name(f"{self.path.stem}.loss.csv")).is_file():
                write_atomically(losses.with_suffix(".svg"), drawn_losses(losses))
            self.path.with_name(f"{self.path.stem}.resume.safetensors").unlink(missing_ok=True)
        return self.path
