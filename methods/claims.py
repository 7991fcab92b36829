"""Claims: the numbers that sources report, one `claims.csv` beside the method that they speak of."""

import csv
import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vlm_gauntlet.fixtures.errors import GauntletError, problems
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.parts import Parts, in_folders, read_all
from vlm_gauntlet.fixtures.reported import lost, reported_protocols
from vlm_gauntlet.fixtures.sources import parts as source_files
from vlm_gauntlet.fixtures.sources import sources

HERE = Path(__file__).parent
FILE = "claims.csv"

Metric = Literal[
    "accuracy", "accuracy difference", "tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10", "attack success",
    "training time", "inference time", "batch size", "squared distance", "ratio",
]  # fmt: skip
Tag = Literal["paper", "code", "re-reported", "third-party"]
PERCENT = ("accuracy", "tr@1", "tr@5", "tr@10", "ir@1", "ir@5", "ir@10", "attack success")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


class Claim(BaseModel):
    """One number that one source reports, at one place of one table.

    Args:
        method: the folder, which is the id of the method.
        table, row, column: the place, as printed.
        variant: which model of the method (`TAPT-VLI`, `trained at 4/255`, `on tecoa`), empty where there is one.
        trained_on: data set of the training, `none` or `unknown`.
        shots: `1`, `5`, `full`..., empty where it does not apply.
        dataset: id of a test set or of a list of them (a mean).
        protocol: id of a reported protocol.
        minus: for a difference, the method that is subtracted; `best` for the best of the others.
        value: exactly as printed.
        sd: standard deviation over seeds as printed, empty where there is none.
        n: number of samples, where the source says it.
        tag: how we know it: each number was read at its place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    source: str
    table: str = Field(min_length=1)
    row: str = Field(min_length=1)
    column: str = Field(min_length=1)
    variant: str = ""
    backbone: str = Field(min_length=1)
    trained_on: str = Field(min_length=1)
    setting: Literal["zero-shot", "in-distribution", "few-shot", "unknown"]
    shots: str = ""
    dataset: str
    protocol: str
    metric: Metric
    minus: str = ""
    value: str
    sd: float | None = Field(default=None, ge=0)
    n: int | None = Field(default=None, ge=1)
    tag: Tag
    note: str = ""

    @field_validator("sd", "n", mode="before")
    @classmethod
    def _blank(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        return _one_of(value, {*sources(), *source_files().unusable}, "fixtures/data/sources")

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        return _one_of(value, known_datasets().names, "fixtures/data/known_datasets.toml")

    @field_validator("protocol")
    @classmethod
    def _known_protocol(cls, value: str) -> str:
        return value if lost(value) else _one_of(value, reported_protocols(), "fixtures/data/reported")

    @field_validator("value")
    @classmethod
    def _a_number(cls, value: str, info: object) -> str:
        if not NUMBER.match(value):
            raise ValueError(f"{value!r} does not start with a number")
        metric = getattr(info, "data", {}).get("metric")
        if metric in PERCENT and not 0 <= float(value) <= 100:
            raise ValueError(f"{value!r} is outside [0, 100] %")
        return value

    @property
    def id(self) -> str:
        """Where it stands: unique over all claims."""
        return f"{self.source}/{self.table}/{self.row}/{self.column}"

    @property
    def number(self) -> float:
        """The printed number, in its printed unit (percent, or what follows it)."""
        found = NUMBER.match(self.value)
        assert found is not None
        return float(found.group())

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed digit."""
        found = NUMBER.match(self.value)
        assert found is not None
        decimals = found.group().partition(".")[2]
        return 0.5 * 10.0 ** -len(decimals)

    @property
    def mean_over(self) -> tuple[str, ...]:
        """The data sets that it averages; empty for a single one or an unnamed list."""
        return known_datasets().list.get(self.dataset, ())


COLUMNS = tuple(name for name in Claim.model_fields if name != "method")
REQUIRED = tuple(name for name, f in Claim.model_fields.items() if f.is_required() and name != "method")


def _one_of(value: str, known: object, where: str) -> str:
    if value not in known:  # type: ignore[operator]
        raise ValueError(f"{value!r} is not in {where}")
    return value


def read_claims(path: Path) -> list[Claim]:
    """Reads one `claims.csv`; the method is its folder.

    Raises:
        GauntletError: naming file, line and column of the first thing that is wrong.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _wrong(path, 1, "", f"not a CSV file in UTF-8: {error}", "save it as comma-separated UTF-8") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        missing = sorted(set(COLUMNS) - set(lines[0] if lines else ()))
        extra = sorted(set(lines[0] if lines else ()) - set(COLUMNS))
        said = [f"missing columns {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(extra)}"] * bool(extra)
        raise _wrong(path, 1, "", "; ".join(said) or "columns out of order", f"first line: {','.join(COLUMNS)}")
    return list(_rows(path, lines[1:]))


def _rows(path: Path, lines: list[list[str]]) -> Iterator[Claim]:
    seen: dict[str, int] = {}
    for number, fields in enumerate(lines, 2):
        if len(fields) != len(COLUMNS):
            raise _wrong(path, number, "", f"{len(fields)} fields", f"give {len(COLUMNS)}, quoting those with commas")
        try:
            claim = Claim.model_validate({"method": path.parent.name, **dict(zip(COLUMNS, fields, strict=True))})
        except ValidationError as error:
            first = error.errors()[0]
            column = str(first["loc"][0]) if first["loc"] else ""
            raise _wrong(path, number, column, problems(error)[0].removeprefix(f"{column}: "), _fix(column)) from error
        if claim.id in seen:
            raise _wrong(
                path, number, "row", f"a second claim {claim.id!r}; the first is in line {seen[claim.id]}",
                "one place in a table holds one number: name table, row and column apart",
            )  # fmt: skip
        seen[claim.id] = number
        yield claim


def _fix(column: str) -> str:
    choices = {"metric": get_args(Metric), "tag": get_args(Tag), "source": sorted(sources())}.get(column)
    if choices:
        return f"one of: {', '.join(choices)}"
    if column in ("dataset", "protocol"):
        return "name one that is there, or add it to that file"
    return "see methods/claims.py for what each column holds"


def _wrong(path: Path, line: int, column: str, came: str, fix: str) -> GauntletError:
    where = f"{path}, line {line}" + (f", column {column}" if column else "")
    said = f"a claim that does not validate: {came}"
    return GauntletError(said, expected="the columns of Claim", where=where, fix=fix)


@cache
def parts() -> Parts[list[Claim]]:
    """Each method's claims, the broken files with what is wrong; of two that claim one place the later one."""
    found = read_all("claims file", in_folders(HERE, FILE), read_claims, lambda path: path.parent.name)
    owner: dict[str, str] = {}
    for method, rows in list(found.usable.items()):
        if twice := next((c.id for c in rows if c.id in owner), None):
            found.refuse(method, GauntletError(
                f"claim {twice!r} in two methods", expected="one place of a table, one claim",
                where=f"methods/{owner[twice]} and methods/{method}", fix="keep it in one of them",
            ))  # fmt: skip
            continue
        owner |= dict.fromkeys((c.id for c in rows), method)
    return found


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim of every usable file whose source and protocol are usable, in the order of folders and lines."""
    rows = (claim for method in parts().usable.values() for claim in method)
    return tuple(c for c in rows if c.source in sources() and c.protocol in reported_protocols())


def to_csv(rows: list[Claim]) -> str:
    """Claims of one method as the text of its file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for claim in rows:
        writer.writerow(["" if (v := getattr(claim, c)) is None else v for c in COLUMNS])
    return out.getvalue()
