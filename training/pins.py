"""The pins that checkpoints are read by: digests, sizes, and how each was made. Reading them loads no tensor code."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.parts import is_there


class Pin(BaseModel):
    """What is known of a checkpoint: digest, size in bytes, the backbone it starts from, data, and how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int
    base: str
    command: str
    trained_on: str = "unknown"


def read_pins(folder: Path) -> dict[str, Pin]:
    """The pins of a method's checkpoints, by backbone; empty where it has none.

    Raises:
        GauntletError: the file does not validate.
    """
    path = folder / "checkpoints.toml"
    with reading("pins", path, expected="the fields of Pin", fix="restore the file from git"):
        records = tomllib.loads(path.read_text(encoding="utf-8")) if is_there(path) else {}
        return {key: Pin.model_validate(record) for key, record in records.items()}
