"""Mini claims: our own frozen outcomes on the embedded backbones, one `mini_claims.csv` beside each method.

They are to our code what a paper's table is to its authors': numbers that must come out again. Every sample's bit is
kept, so that a later run is compared sample by sample.
"""

import csv
import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vlm_gauntlet import methods
from vlm_gauntlet.fixtures.errors import GauntletError, problems, reading
from vlm_gauntlet.fixtures.files import write_atomically, writing
from vlm_gauntlet.fixtures.parts import Parts, in_folders, is_there, read_all
from vlm_gauntlet.fixtures.records import Outcome

HERE = Path(next(iter(methods.__path__)))
FILE = "mini_claims.csv"
MOST_DRAWS = 9


class MiniClaim(BaseModel):
    """One frozen outcome. `clean` and `attacked` hold one digit a sample: in how many of `draws` it was right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    backbone: str
    backbone_digest: str
    dataset: str
    dataset_digest: str
    protocol: str
    protocol_digest: str
    seed: int
    batch_size: int = Field(ge=0, description="0 where it changes nothing")
    draws: int = Field(ge=1, le=MOST_DRAWS)
    selection: Literal["stored", "permuted"] = Field(
        description="which samples the first n are: as they lie in the data set (until November 2026), or permuted"
    )
    clean: str = Field(pattern=r"^\d+$")
    attacked: str = Field(pattern=r"^\d+$")

    @field_validator("attacked")
    @classmethod
    def _same_length(cls, value: str, info: object) -> str:
        if len(value) != len(getattr(info, "data", {}).get("clean", value)):
            raise ValueError("attacked and clean have different numbers of samples")
        return value

    @classmethod
    def of(cls, outcome: Outcome) -> "MiniClaim":
        """Freezes an outcome.

        Raises:
            GauntletError: it was scored over more draws than one digit a sample can tell.
        """
        cell = outcome.cell
        if not cls.holds(outcome):
            raise GauntletError(
                f"{cell.id}: {outcome.draws} scoring draws", expected=f"at most {MOST_DRAWS}, one digit a sample",
                where="mini claims", fix="freeze an outcome of fewer draws",
            )  # fmt: skip
        return cls(
            method=cell.method, backbone=cell.backbone, backbone_digest=cell.backbone_digest[:12], dataset=cell.dataset,
            dataset_digest=cell.dataset_digest[:12], protocol=cell.protocol.id, draws=outcome.draws, seed=cell.seed,
            protocol_digest=cell.protocol.digest[:12], batch_size=cell.batch_size or 0, selection="permuted",
            clean="".join(str(s.clean) for s in outcome.samples),
            attacked="".join(str(s.attacked) for s in outcome.samples),
        )  # fmt: skip

    @staticmethod
    def holds(outcome: Outcome) -> bool:
        """Whether an outcome can be written down as one."""
        return outcome.draws <= MOST_DRAWS

    @property
    def id(self) -> str:
        """What it speaks of, as a cell's id."""
        return f"{self.method}-{self.backbone}-{self.dataset}-{self.protocol}"

    @property
    def setting(self) -> tuple[object, ...]:
        """Everything that two runs must share to be compared sample by sample; the first n samples of both are."""
        return tuple(v for k, v in self.model_dump().items() if k not in ("clean", "attacked"))

    @property
    def attacks(self) -> bool:
        """Whether it is about attacked images; else about clean ones."""
        return self.protocol != "clean"

    @property
    def fractions(self) -> list[float]:
        """Per sample, the fraction of draws that were right, in the quantity that it is about."""
        return [int(digit) / self.draws for digit in (self.attacked if self.attacks else self.clean)]


COLUMNS = tuple(MiniClaim.model_fields)


def read_mini_claims(path: Path) -> list[MiniClaim]:
    """The rows of one file.

    Raises:
        GauntletError: naming file, line and column.
    """
    fix = "restore the file from git, or make it again: gauntlet claims freeze --outcomes DIR"
    found = []
    with (
        reading("mini claims", path, expected=f"columns {','.join(COLUMNS)}", fix=fix),
        path.open(newline="", encoding="utf-8") as file,
    ):
        reader = csv.DictReader(file, strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"line 1: columns {','.join(reader.fieldnames or ())}")
        for line in reader:
            try:
                found.append(MiniClaim.model_validate(line))
            except ValidationError as error:
                raise ValueError(f"line {reader.line_num}: {'; '.join(problems(error))}") from error
    return found


@cache
def parts() -> Parts[list[MiniClaim]]:
    """Each method's mini claims, the broken files with what is wrong."""
    return read_all("mini claims file", in_folders(HERE, FILE), read_mini_claims, lambda path: path.parent.name)


@cache
def mini_claims() -> tuple[MiniClaim, ...]:
    """Every mini claim of every usable file."""
    return tuple(reference for method in parts().usable.values() for reference in method)


def freeze(outcomes: Iterable[Outcome], folder: Path = HERE) -> list[Path]:
    """Writes outcomes of the methods in `folder` as their mini claims; a frozen cell that is not among them stays."""
    by_method: dict[str, dict[str, MiniClaim]] = {}
    for outcome in outcomes:
        stem = outcome.cell.method.partition("@")[0].partition("+")[0]
        if not (folder / stem / "card.toml").is_file():
            continue
        path = folder / stem / FILE
        kept = by_method.setdefault(stem, {r.id: r for r in read_mini_claims(path)} if is_there(path) else {})
        made = MiniClaim.of(outcome)
        kept[made.id] = made
    written = []
    for stem, kept in sorted(by_method.items()):
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(r, c) for c in COLUMNS] for _, r in sorted(kept.items()))
        with writing(folder / stem / FILE, fix="make room; the file is as it was"):
            write_atomically(folder / stem / FILE, out.getvalue().encode())
        written.append(folder / stem / FILE)
    return written
