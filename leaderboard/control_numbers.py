"""Control numbers: what a public source measured on the same model must come out here before a night counts.

A number holds if ours lies within TOLERANCE (other pictures' codecs, other kernels) and Z standard errors of sampling.
"""

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_gauntlet import fixtures
from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import natural_sets, set_of
from vlm_gauntlet.fixtures.records import Outcome

PATH = Path(next(iter(fixtures.__path__))) / "data" / "control_numbers.toml"
BACKBONE = "open_clip:ViT-B-32-quickgelu/openai"
LIST = "fare-13"
TOLERANCE = 0.005
Z = 3.29  # 99.9 %: of two dozen right numbers, one in forty nights has one outside
LEAST = 100  # samples, below which an interval says nothing
Word = Literal["holds", "does not hold", "not run"]


class Source(BaseModel):
    """Where numbers were read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    url: str


class Control(BaseModel):
    """Numbers of one method under one protocol, in per cent: `values` by data set, or the `mean` over LIST.

    Args:
        samples: of each set in the source, where it is not the whole set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    method: str
    protocol: str
    values: dict[str, float] = {}
    mean: float | None = Field(default=None, ge=0, le=100)
    samples: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> "Control":
        if bool(self.values) == (self.mean is not None):
            raise ValueError("give values or a mean")
        if unknown := sorted(self.values.keys() - natural_sets().keys()):
            raise ValueError(f"unknown data sets: {', '.join(unknown)}")
        return self


@dataclass(frozen=True)
class Held:
    """One number and what came out.

    Args:
        control: whose it is.
        dataset: id, or LIST for a mean.
        expected: the source's, as a fraction.
        observed, n: ours; None and 0 where it was not run.
        low, high: between which ours holds.
        word: the answer.
        reason: one sentence.
        command: what would run it.
    """

    control: Control
    dataset: str
    expected: float
    observed: float | None
    n: int
    low: float
    high: float
    word: Word
    reason: str
    command: str


@cache
def control_numbers() -> tuple[dict[str, Source], tuple[Control, ...]]:
    """The sources by name, and the controls.

    Raises:
        GauntletError: the file does not validate.
    """
    with reading("control numbers", PATH, expected="[source.<name>] and [[control]] tables", fix="see its head"):
        record = tomllib.loads(PATH.read_text(encoding="utf-8"))
        sources = {name: Source.model_validate(fields) for name, fields in record["source"].items()}
        controls = tuple(Control.model_validate(fields) for fields in record["control"])
        if strangers := sorted({c.source for c in controls} - sources.keys()):
            raise ValueError(f"unknown sources: {', '.join(strangers)}")
        return sources, controls


def held(outcomes: Sequence[Outcome]) -> list[Held]:
    """Every control number against the outcomes of a run; of several, the one of most samples speaks."""
    largest: dict[tuple[str, str, str], Outcome] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.n, o.provenance.made)):
        if outcome.cell.backbone == BACKBONE:
            largest[outcome.cell.method, outcome.cell.protocol.id, outcome.cell.dataset] = outcome
    return [found for control in control_numbers()[1] for found in _held(control, largest)]


def standing(found: Sequence[Held]) -> Word:
    """What they say together: one that does not hold speaks for all, one that was not run for those that hold."""
    words = {one.word for one in found}
    return "does not hold" if "does not hold" in words else "not run" if "not run" in words else "holds"


def _held(control: Control, outcomes: dict[tuple[str, str, str], Outcome]) -> Iterator[Held]:
    for dataset, value in control.values.items():
        ours = outcomes.get((control.method, control.protocol, dataset))
        yield _judged(control, dataset, value, [ours] if ours else [], [dataset])
    if control.mean is not None:
        sets = [set_of("VTAB", name) for name in known_datasets().list[LIST]]
        ran = [o for name in sets if (o := outcomes.get((control.method, control.protocol, name)))]
        yield _judged(control, LIST, control.mean, ran, sets)


def _judged(control: Control, dataset: str, value: float, ran: list[Outcome], sets: list[str]) -> Held:
    expected, command = value / 100, _command(control, sets)
    missing = sorted({*sets} - {o.cell.dataset for o in ran})
    if missing or min(o.n for o in ran) < LEAST:
        lacking = f"No outcome on {', '.join(missing)}." if missing else f"Fewer than {LEAST} samples."
        return Held(control, dataset, expected, None, 0, 0.0, 1.0, "not run", lacking, command)
    observed = sum(o.attacked_accuracy for o in ran) / len(ran)
    margin = TOLERANCE + Z * math.sqrt(sum(_variance(control, o) for o in ran)) / len(ran) + _rounding(control)
    low, high = max(0.0, expected - margin), min(1.0, expected + margin)
    word: Word = "holds" if low <= observed <= high else "does not hold"
    said = f"{100 * observed:.2f} here, {100 * expected:.2f} there; it may lie in [{100 * low:.1f}, {100 * high:.1f}]."
    return Held(control, dataset, expected, observed, sum(o.n for o in ran), low, high, word, said, command)


def _variance(control: Control, ours: Outcome) -> float:
    """Of the difference on one set: ours is a part of the set that the source measured whole, or each took a part."""
    p, n = ours.attacked_accuracy, ours.n
    if control.samples is not None:
        return p * (1 - p) * (1 / n + 1 / control.samples)
    whole = natural_sets()[ours.cell.dataset].samples
    return p * (1 - p) / n * (max(0, whole - n) / (whole - 1) if whole else 1)


def _rounding(control: Control) -> float:
    return 0.0005 if control.mean is not None else 0.00005


def _command(control: Control, sets: Sequence[str]) -> str:
    limit = control.samples or 1_000_000
    named = " ".join(f"--dataset {name}" for name in sets)
    return (
        f"gauntlet run --method {control.method} --backbone {BACKBONE} {named} --protocol {control.protocol} "
        f"--limit {limit} --device cuda --allow-network"
    )
