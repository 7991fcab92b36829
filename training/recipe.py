"""Recipes of training: `methods/<id>/recipes/<name>.toml`, read once, validated, frozen.

A file holds what differs from the one that its `base` names. Tables under `when."<deviation>=<choice>"` hold what a
deviation changes. `[[phases]]` follow each other; what stands outside them holds for all.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationInfo, model_validator

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.errors import GauntletError, reading, unknown_name
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.inheritance import inherited, merged
from vlm_gauntlet.fixtures.packing import ALL_LEVELS
from vlm_gauntlet.fixtures.protocols import ExactFraction

DEFAULT = "reproduction"  # the paper's own recipe
NonNegative = Annotated[float, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Group(_Frozen):
    """What one group of parameters has of its own."""

    learning_rate: NonNegative | None = None
    weight_decay: NonNegative | None = None


class _Optimiser(_Frozen):
    learning_rate: NonNegative
    groups: dict[str, Group] = {}


class SGD(_Optimiser):
    """`torch.optim.SGD`."""

    name: Literal["sgd"]
    momentum: NonNegative = 0.0
    weight_decay: NonNegative = 0.0
    nesterov: bool = False


class Adam(_Optimiser):
    """`torch.optim.AdamW`, or `torch.optim.Adam`, whose decay is part of the gradient."""

    name: Literal["adamw", "adam"]
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.01


class Schedule(_Frozen):
    """Factor on the learning rate, a step at a time: a linear warm-up, then a shape.

    Args:
        name: `constant`; `cosine`: half a cosine to zero over the steps after the warm-up; `capped-cosine`: half a
            cosine over all steps, never above the warm-up's line.
        warmup: steps; step 0 already has the rate of one step up the line.
        first_step: `peak`: step 0 has the optimiser's own rate, as in a loop that sets the rate after each step.
    """

    name: Literal["constant", "cosine", "capped-cosine"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    first_step: Literal["line", "peak"] = "line"

    def rate(self, peak: float, step: int, total: int) -> float:
        """Learning rate at a step in 0..total - 1 of a phase."""
        if step == 0 and self.first_step == "peak":
            return peak
        if self.name == "capped-cosine":
            line = (step + 1) / self.warmup if self.warmup else 1.0
            return peak * min(line, 0.5 * (1 + math.cos(math.pi * step / total)))
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        if self.name == "constant":
            return peak
        return peak * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, total - self.warmup)))


class Budget(_Frozen):
    """What the inner maximisation may do: L-inf radius and step in [0,1] pixels, exact fractions, and its steps."""

    eps: ExactFraction = Field(ge=0)
    steps: Annotated[int, Field(ge=0)]
    step_size: ExactFraction = Field(ge=0)


class Phase(_Frozen):
    """A stretch of training with an optimiser of its own.

    Args:
        epochs, steps: exactly one of them says how long.
        batch_size: samples a step; those left over at the end of an epoch wait for the next order.
        accumulate: parts in which a batch is computed, to save memory.
        clip: largest norm of the gradient.
        attack: of the inner maximisation, for a method that has one.
        text: how sentences are attacked, for a method that trains on them.
    """

    name: str = "main"
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    optimiser: Annotated[SGD | Adam, Field(discriminator="name")]
    schedule: Schedule = Schedule()
    clip: PositiveFloat | None = None
    attack: Budget | None = None
    text: WordSwap | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "Phase":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"phase {self.name!r} needs either epochs or steps")
        return self

    def length(self, samples: int) -> int:
        """Steps of the phase over so many samples an epoch.

        Raises:
            GauntletError: not one batch of them.
        """
        if samples < self.batch_size:
            raise GauntletError(
                f"{samples} samples", expected=f"at least one batch of {self.batch_size}", where="--data",
                fix="more data, or a recipe with a smaller batch_size",
            )  # fmt: skip
        return self.steps or (self.epochs or 0) * (samples // self.batch_size)

    @property
    def budget(self) -> Budget:
        """The `attack`.

        Raises:
            GauntletError: the recipe has none.
        """
        if self.attack is None:
            raise GauntletError(
                f"phase {self.name!r} without an attack", expected="eps, steps and step_size", where="the recipe",
                fix='attack = { eps = "1/255", steps = 2, step_size = "1/255" }',
            )  # fmt: skip
        return self.attack

    @property
    def text_rules(self) -> WordSwap:
        """The `text`.

        Raises:
            GauntletError: the recipe has none.
        """
        if self.text is None:
            raise GauntletError(
                f"phase {self.name!r} without an attack on text", expected="a source of words and a budget",
                where="the recipe", fix='text = { source = "characters" }',
            )  # fmt: skip
        return self.text


class Recipe(_Frozen):
    """All that fixes a training but its data, its start and its seed.

    Args:
        shots: samples of each class; default: all.
        fresh_shots: draw them again for each epoch.
        precision: as Lightning Fabric names them; anything but `32-true` needs it.
        save_every: steps between two saved states; a killed run loses at most these.
        levels: of the matrices of the difference that is kept, on each side of zero; below 127 they are entropy-coded.
    """

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    shots: PositiveInt | None = None
    fresh_shots: bool = False
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    save_every: PositiveInt = 100
    levels: Annotated[int, Field(ge=1, le=ALL_LEVELS)] = ALL_LEVELS

    @model_validator(mode="before")
    @classmethod
    def _common_to_all_phases(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        common = {k: v for k, v in data.items() if k in Phase.model_fields}
        rest = {k: v for k, v in data.items() if k not in common}
        phases = rest.get("phases", ({},))
        if isinstance(phases, (list, tuple)) and all(isinstance(p, Mapping) for p in phases):
            rest["phases"] = [merged(common, phase) for phase in phases]
        return rest

    @property
    def digest(self) -> str:
        """SHA-256 of all fields."""
        return sha256(self.model_dump_json().encode())

    def lasting(self, *, epochs: int | None = None, steps: int | None = None) -> "Recipe":
        """The same with another length of each phase; None: as it is."""
        if epochs is None and steps is None:
            return self
        phases = tuple(phase.model_copy(update={"epochs": epochs, "steps": steps}) for phase in self.phases)
        return self.model_copy(update={"phases": phases})


def recipe_names(folder: Path) -> list[str]:
    """Names of the recipes in a method's folder `recipes/`."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def find_recipe(folder: Path, wanted: str | None, backbone: str) -> Path:
    """The file of a recipe: the wanted one (a name, or a file), else the backbone's, else the paper's.

    Raises:
        GauntletError: no recipe of this name, no such file.
    """
    if wanted is not None and wanted.endswith(".toml"):
        return Path(wanted)
    names = recipe_names(folder)
    name = wanted or (backbone if backbone in names else DEFAULT)
    if name not in names:
        raise unknown_name("recipe", name, names, f"--recipe (those of {folder})")
    return folder / f"{name}.toml"


def read_recipe(path: Path, deviations: Mapping[str, str] | None = None) -> Recipe:
    """Reads a recipe with its bases, then applies what the deviations change.

    Raises:
        GauntletError: the file does not validate; names file and field.
    """
    with reading("a recipe", path, expected="the fields of training.recipe.Recipe", fix="compare with its neighbours"):
        fields = inherited(path)
        when: dict[str, Any] = fields.pop("when", {})
        for name, choice in (deviations or {}).items():
            fields = merged(fields, when.get(f"{name}={choice}", {}))
        return Recipe.model_validate(fields)
