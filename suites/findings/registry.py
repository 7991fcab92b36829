"""All findings by id, and what was measured of them: `measured.csv`, made by `gauntlet findings --measure`."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from vlm_gauntlet.fixtures.errors import reading, unknown_name

from . import anchors, attention, features, noise, proxies, text, trained
from .finding import Figure, Finding, Judgement
from .scene import PLACES as PLACES
from .scene import Place, Scene

ROOMS = (noise, features, anchors, attention, proxies, text, trained)  # in the order in which people read them
MEASURED = Path(__file__).parent / "measured.csv"
COLUMNS = ("finding", "backbone", "dataset", "eps", "n", "value", "low", "high")
LIMIT = 64


class Measured(BaseModel):
    """A line of `measured.csv`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    finding: str
    backbone: str
    dataset: str
    eps: str
    n: int
    value: float
    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> "Measured":
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} outside its interval [{self.low}, {self.high}]")
        return self

    @property
    def figure(self) -> Figure:
        """The number."""
        return Figure(self.value, self.low, self.high, self.n)


@dataclass(frozen=True)
class Told:
    """A finding with what was measured of it in one place, or nothing."""

    finding: Finding
    measured: Measured | None

    @property
    def judgement(self) -> Judgement:
        """What it comes to."""
        return self.finding.judged(self.measured.figure) if self.measured else "cannot be told"

    @property
    def place(self) -> str:
        """The backbone; empty where nothing was measured."""
        return self.measured.backbone if self.measured else ""

    @property
    def command(self) -> str:
        """What measures it again."""
        return f"gauntlet findings {self.finding.id} --measure" + (f" --backbone {self.place}" if self.place else "")

    @property
    def record(self) -> dict[str, object]:
        """As a line of the exports."""
        found, line = self.finding, self.measured
        return {
            "finding": found.id, "says": found.says, "source": found.source, "quantity": found.quantity,
            "rule": found.rule, "backbone": self.place, "dataset": line.dataset if line else "",
            "eps": line.eps if line else "", "n": line.n if line else 0, "value": line.value if line else None,
            "interval": f"[{line.low:g}, {line.high:g}]" if line else "", "judgement": self.judgement,
            "why_not": found.why_not, "command": self.command,
        }  # fmt: skip


def findings() -> dict[str, Finding]:
    """All of them, in the order of their rooms."""
    return {found.id: found for room in ROOMS for found in room.FINDINGS}


def finding(name: str) -> Finding:
    """The one of this id.

    Raises:
        GauntletError: nobody knows it, with near misses.
    """
    if name not in findings():
        raise unknown_name("finding", name, list(findings()), "gauntlet findings")
    return findings()[name]


def measured(path: Path = MEASURED) -> list[Measured]:
    """The lines of the file.

    Raises:
        GauntletError: it does not validate.
    """
    with (
        reading("measured findings", path, expected=f"columns {', '.join(COLUMNS)}", fix="gauntlet findings --measure"),
        path.open(encoding="utf-8", newline="") as file,
    ):
        return [Measured.model_validate(line) for line in csv.DictReader(file)]


def told() -> Iterator[Told]:
    """Every finding in every place where it was measured; one that was measured nowhere once."""
    lines = measured()
    for found in findings().values():
        own = [Told(found, line) for line in lines if line.finding == found.id]
        yield from own or [Told(found, None)]


@lru_cache(maxsize=1)
def _scene(place: Place, limit: int) -> Scene:
    """One for all findings of a place: its images are attacked once."""
    return Scene(place, limit)


def measure(found: Finding, place: Place, limit: int = LIMIT) -> Measured | None:
    """Measures a finding in a place; None where it has no measure."""
    if found.measure is None:
        return None
    figure = found.measure(_scene(place, limit))
    return Measured(
        finding=found.id, backbone=place.backbone, dataset=place.dataset, eps=str(place.eps), n=figure.n,
        value=round(figure.value, 4), low=round(figure.low, 4), high=round(figure.high, 4),
    )  # fmt: skip
