"""What came of recomputing samples of an outcome, in a file of its own beside it: the outcome stays as it was made."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import read_plain, write_atomically, writing
from vlm_gauntlet.fixtures.parts import is_there
from vlm_gauntlet.fixtures.records import MOST_SAMPLES, Name, Seed, Text

from .record_folder import BESIDE, Record, SetAside

FIX = "move the file away: the outcome itself is not touched"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Difference(_Record):
    """One number of one sample, or of the outcome (`sample` is empty), that came out otherwise."""

    sample: str = Field(max_length=300)
    field: Name
    recorded: Text
    recomputed: Text


class Verification(_Record):
    """One look at an outcome.

    Args:
        by: who verified it, in their own words.
        seed: what the samples were chosen by.
        chosen: ids of the samples that were recomputed.
        bits_digest: of the outcome that was looked at: of another one with the same key it says nothing.
    """

    by: Name
    made: datetime
    seed: Seed
    chosen: tuple[Name, ...] = Field(min_length=1, max_length=MOST_SAMPLES)
    of: int = Field(ge=1, le=MOST_SAMPLES, description="samples of the outcome")
    differences: tuple[Difference, ...] = Field(max_length=MOST_SAMPLES)
    bits_digest: str
    code_digest: str
    method_digest: str
    device: Text
    versions: dict[Name, Text]
    source: Literal["recomputed", "archive"] = Field(
        default="recomputed", description="archive: the attacked images were those kept by the run, and only scored"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Verification":
        if len(set(self.chosen)) != len(self.chosen) or len(self.chosen) > self.of:
            raise ValueError("a sample twice, or more samples than the outcome has")
        return self

    @property
    def result(self) -> Literal["verified", "differs"]:
        """Whether all that was recomputed came out as it stands on record."""
        return "differs" if self.differences else "verified"

    @property
    def words(self) -> str:
        """`verified 8 of 24`, `differs: 2 of 8 recomputed`; of archived images `verified 8 of 24 from the archive`."""
        wrong = {d.sample for d in self.differences}
        told = f"differs: {len(wrong - {''})} of {len(self.chosen)}" if wrong else f"verified {len(self.chosen)}"
        how = " from the archive" if self.source == "archive" else ""
        return f"{told} {'scored' if how else 'recomputed'}{how}" if wrong else f"{told} of {self.of}{how}"


class Verifications(_Record):
    """All looks at one outcome, the oldest first."""

    schema_version: Literal[1] = 1
    key: Name
    verifications: tuple[Verification, ...] = Field(min_length=1)


def beside(folder: Path, key: str) -> Path:
    """The file of an outcome's verifications."""
    return folder / f"{key}{BESIDE}"


def add(folder: Path, key: str, made: Verification) -> Path:
    """Writes a verification behind the earlier ones.

    Raises:
        GauntletError: the file cannot be read or written.
    """
    path = beside(folder, key)
    earlier = _read(path, key).verifications if is_there(path) else ()
    record = Verifications(key=key, verifications=(*earlier, made))
    with writing(path, fix="make room, or verify a copy of the outcome; --no-record writes nothing"):
        write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())
    return path


def verifications(folder: Path, outcome: Record) -> tuple[tuple[Verification, ...], SetAside | None]:
    """Those of an outcome as it is now, and what is wrong with the file if something is."""
    path = beside(folder, outcome.key)
    if not is_there(path):
        return (), None
    try:
        found = _read(path, outcome.key).verifications
    except GauntletError as error:
        return (), SetAside(path, error.came)
    return tuple(v for v in found if v.bits_digest == outcome.bits_digest), None


def _read(path: Path, key: str) -> Verifications:
    with reading("a record of verifications", path, expected="what `gauntlet verify` writes", fix=FIX):
        found = Verifications.model_validate_json(read_plain(path), strict=True)
        if found.key != key:
            raise ValueError(f"it speaks of {found.key}")
    return found
