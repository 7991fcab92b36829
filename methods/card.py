"""A method's identity, read from `card.toml`, and its named deviations, read from `deviations.toml`."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vlm_gauntlet.fixtures.errors import GauntletError, reading


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


class Cost(_Record):
    """Passes of the image encoder for one image at inference."""

    forward: int
    backward: int


class Card(_Record):
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
    cost: Cost | None = None
    randomised: bool = False
    keeps_state: bool = False
    batch_coupled: bool = False
    weights: dict[str, str] = Field(default={}, description="backbone -> checkpoint file that the method needs")
    notes: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()


def read_card(folder: Path) -> Card:
    """Reads `card.toml` and `deviations.toml` of a method folder; the id must be the folder's name."""
    path, switches = folder / "card.toml", folder / "deviations.toml"
    expected = "the fields of Card and Deviation (methods/card.py)"
    with reading("card or deviations", folder, expected=expected, fix="compare with methods/ttc"):
        record = tomllib.loads(path.read_text())
        if switches.is_file():
            record["deviations"] = tomllib.loads(switches.read_text())["deviation"]
        card = Card.model_validate(record)
    if card.id != folder.name:
        raise GauntletError(
            f"card id {card.id!r} in folder {folder.name!r}",
            expected="card id = folder name",
            where=str(path),
            fix="rename one of the two",
        )
    return card
