"""A method's identity (`card.toml`), its named deviations (`deviations.toml`), its costs (`measured.toml`)."""

import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.parts import is_there
from vlm_gauntlet.training.cost import TrainingCost

MEASURED = "measured.toml"
FIX = "compare with methods/ttc"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deviation(_Record):
    """A named switch for one place where official code and paper differ."""

    name: str
    choices: tuple[str, ...] = Field(min_length=2, description="first the default")
    as_coded: str = Field(description="which choice is what the official code does")
    differs: str = Field(description="what paper and code say, in words")
    source: str
    explains: tuple[str, ...] = Field(default=(), description="patterns of claim ids that need the other choice")


class Assumed(_Record):
    """A constant that no source states, so that we chose it: whoever reads the row should know."""

    value: float | int | str
    why: str = Field(description="what the sources say instead, and where the value comes from")
    switch: str = Field(
        default="", description="the deviation whose default choice it is: with another choice it is not assumed"
    )


class Variant(_Record):
    """A switch or a composition that is worth a row of its own: `+as_coded`, `@tecoa`."""

    name: str = Field(pattern=r"^([+@][\w=.]+)+$")
    exemplary: bool = Field(default=False, description="stands in the fast tier, too")
    gpu: bool = Field(default=False, description="waits for a tier with a GPU: slow on a processor")


class Cost(_Record):
    """Passes of the image encoder for one image."""

    forward: int
    backward: int


class Timing(_Record):
    """Times on one backbone, in milliseconds an image. Informative: no other machine repeats them.

    On one CPU thread processor time, else wall-clock time.
    """

    backbone: str
    device: str = Field(description="what computed, in words")
    batch_size: int = Field(ge=1)
    defence_ms: float = Field(gt=0, description="of one prediction")
    attack_ms: float = Field(gt=0, description="of one gradient of the adaptive attacker")
    measured: date


class Measured(_Record):
    """What `gauntlet check --measure` and `gauntlet train --measure` print.

    It tells of a method and makes nothing of it: no digest reads it.
    """

    attack_cost: Cost | None = Field(
        default=None,
        description="passes for one gradient of the adaptive attacker: straight-through, one draw, one image; "
        "an attack costs steps x draws x this",
    )
    timings: tuple[Timing, ...] = ()
    trainings: tuple[TrainingCost, ...] = ()


class Card(Measured):
    """Who made a method, what it optimises, what it claims to resist."""

    id: str
    name: str
    paper: str
    authors: str
    year: int
    venue: str
    url: str = ""
    code: str = Field(description="official repository and commit, or 'none'")
    code_licence: str
    paradigm: Literal["undefended", "training-free", "test-time-adaptation", "fine-tuning", "prompt-tuning", "external"]
    optimises: str
    threat: str = Field(description="threat model that the paper claims against")
    hyperparameters: dict[str, float | int | str] = {}
    assumed: dict[str, Assumed] = Field(default={}, description="constants that we assumed, by name")
    cost: Cost | None = Field(default=None, description="passes of the defence for one image at inference")
    randomised: bool = False
    keeps_state: bool = False
    batch_coupled: bool = False
    weights: dict[str, str] = Field(default={}, description="backbone -> checkpoint file that the method needs")
    exemplary: bool = Field(default=False, description="stands in the fast tier, which shows each mechanism once")
    variants: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()

    def assuming(self, chosen: Mapping[str, str]) -> dict[str, Assumed]:
        """What is assumed under these choices of deviations: a constant that a choice replaces no longer is."""
        defaults = {d.name: d.choices[0] for d in self.deviations}
        moved = {name for name, choice in chosen.items() if choice != defaults.get(name)}
        return {name: value for name, value in self.assumed.items() if value.switch not in moved}

    @model_validator(mode="after")
    def _switches_exist(self) -> "Card":
        names = {d.name for d in self.deviations}
        for name, value in self.assumed.items():
            if value.switch and value.switch not in names:
                raise ValueError(f"assumed.{name}: no deviation {value.switch!r}")
        return self

    def timing(self, backbone: str) -> Timing | None:
        """The first timing on this backbone, or None."""
        return next((t for t in self.timings if t.backbone == backbone), None)


def read_card(folder: Path) -> Card:
    """Reads the card of a method folder, deviations and measurements included; its id must be the folder's name.

    Raises:
        GauntletError: one of the three files does not validate, or the id is another.
    """
    path, switches, measured = folder / "card.toml", folder / "deviations.toml", folder / MEASURED
    record: dict[str, object] = {}
    if is_there(switches):
        with reading("deviations", switches, expected=f"[[deviation]] tables of {_fields(Deviation)}", fix=FIX):
            tables = tomllib.loads(switches.read_text(encoding="utf-8"))["deviation"]
            record["deviations"] = [Deviation.model_validate(table) for table in tables]
    if is_there(measured):
        with reading("measurements", measured, expected=_fields(Measured), fix="gauntlet check <id> --measure"):
            told = Measured.model_validate(tomllib.loads(measured.read_text(encoding="utf-8")))
            record |= told.model_dump(exclude_unset=True)
    with reading("card", path, expected="the fields of Card (methods/card.py)", fix=FIX):
        card = Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")) | record)
    if card.id != folder.name:
        raise GauntletError(
            f"card id {card.id!r} in folder {folder.name!r}",
            expected="card id = folder name",
            where=str(path),
            fix="rename one of the two",
        )
    return card


def _fields(record: type[BaseModel]) -> str:
    return ", ".join(record.model_fields)
