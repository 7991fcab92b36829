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
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome

PATH = Path(next(iter(fixtures.__path__))) / "data" / "control_numbers.toml"
BACKBONE = "open_clip:ViT-B-32-quickgelu/openai"
LIST = "fare-13"
TOLERANCE = 0.005
Z = 3.29  # 99.9 %: of two dozen right numbers, one in forty nights has one outside
LEAST = 100  # samples, below which an interval says nothing
Word = Literal["holds", "does not hold", "not run"]
Measure = Literal["accuracy", "text to image, R@5", "image to text, R@5"]


class Source(BaseModel):
    """Where numbers were read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    url: str


class Control(BaseModel):
    """Numbers of one method under one protocol, in per cent: `values` by data set, or the `mean` over LIST.

    Args:
        samples: of each set in the source, where it is not the whole set.
        measure: what is counted. Recall depends on how many pictures are searched, so that only whole sets answer.
        decimals: that the source prints of a value in per cent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    method: str
    protocol: str
    values: dict[str, float] = {}
    mean: float | None = Field(default=None, ge=0, le=100)
    samples: int | None = Field(default=None, ge=1)
    measure: Measure = "accuracy"
    decimals: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _one_kind(self) -> "Control":
        if bool(self.values) == (self.mean is not None):
            raise ValueError("give values or a mean")
        if unknown := sorted(self.values.keys() - natural_sets().keys()):
            raise ValueError(f"unknown data sets: {', '.join(unknown)}")
        if self.recall and (self.mean is not None or self.samples is not None or self.protocol != "clean"):
            raise ValueError("recall is of whole sets, one by one, without attack")
        return self

    @property
    def recall(self) -> bool:
        """Whether captions are searched for, or pictures by them."""
        return self.measure != "accuracy"


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


def held(outcomes: Sequence[Outcome], retrieval: Sequence[RetrievalOutcome] = ()) -> list[Held]:
    """Every control number against the outcomes of a run; of several, the one of most samples speaks."""
    largest: dict[tuple[str, str, str], Outcome] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.n, o.provenance.made)):
        if outcome.cell.backbone == BACKBONE:
            largest[outcome.cell.method, outcome.cell.protocol.id, outcome.cell.dataset] = outcome
    return [
        found
        for control in control_numbers()[1]
        for found in (_recalled(control, retrieval) if control.recall else _held(control, largest))
    ]


def standing(found: Sequence[Held]) -> Word:
    """What they say together: one that does not hold speaks for all, one that was not run for those that hold."""
    words = {one.word for one in found}
    return "does not hold" if "does not hold" in words else "not run" if "not run" in words else "holds"


def not_holding(found: Sequence[Held]) -> str:
    """Which do not hold, in a sentence; empty where none fails."""
    failed = [f"{one.control.method} on {one.dataset}: {one.reason}" for one in found if one.word == "does not hold"]
    more = f" And {len(failed) - 1} more." if len(failed) > 1 else ""
    return f"a control number does not hold on this backbone: {failed[0]}{more}" if failed else ""


def _held(control: Control, outcomes: dict[tuple[str, str, str], Outcome]) -> Iterator[Held]:
    for dataset, value in control.values.items():
        ours = outcomes.get((control.method, control.protocol, dataset))
        yield _judged(control, dataset, value, [ours] if ours else [], [dataset])
    if control.mean is not None:
        sets = [set_of("VTAB", name) for name in known_datasets().list[LIST]]
        ran = [o for name in sets if (o := outcomes.get((control.method, control.protocol, name)))]
        yield _judged(control, LIST, control.mean, ran, sets)


def _recalled(control: Control, outcomes: Sequence[RetrievalOutcome]) -> Iterator[Held]:
    for dataset, value in control.values.items():
        whole, expected = natural_sets()[dataset].samples, value / 100
        found = [
            o for o in outcomes
            if (o.cell.method, o.cell.backbone, o.cell.dataset) == (control.method, BACKBONE, dataset)
            and (o.image_to_text.n == whole if whole else o.image_to_text.n < o.cell.limit)
        ]  # fmt: skip
        if not found:
            lacking, command = f"No outcome on all of {dataset}.", _command(control, [dataset])
            yield Held(control, dataset, expected, None, 0, 0.0, 1.0, "not run", lacking, command)
            continue
        newest = max(found, key=lambda o: (o.provenance.made, o.key))
        ranks = newest.text_to_image if control.measure.startswith("text") else newest.image_to_text
        observed = sum(rank < 5 for rank in ranks.clean) / ranks.n
        yield _told(control, dataset, observed, ranks.n, TOLERANCE + _rounding(control), [dataset])


def _judged(control: Control, dataset: str, value: float, ran: list[Outcome], sets: list[str]) -> Held:
    missing = sorted({*sets} - {o.cell.dataset for o in ran})
    if missing or min(o.n for o in ran) < LEAST:
        lacking = f"No outcome on {', '.join(missing)}." if missing else f"Fewer than {LEAST} samples."
        command = _command(control, sets)
        return Held(control, dataset, value / 100, None, 0, 0.0, 1.0, "not run", lacking, command)
    observed = sum(o.attacked_accuracy for o in ran) / len(ran)
    margin = TOLERANCE + Z * math.sqrt(sum(_variance(control, o) for o in ran)) / len(ran) + _rounding(control)
    return _told(control, dataset, observed, sum(o.n for o in ran), margin, sets)


def _told(control: Control, dataset: str, observed: float, n: int, margin: float, sets: Sequence[str]) -> Held:
    expected = (control.mean if control.mean is not None else control.values[dataset]) / 100
    low, high = max(0.0, expected - margin), min(1.0, expected + margin)
    word: Word = "holds" if low <= observed <= high else "does not hold"
    said = f"{100 * observed:.2f} here, {100 * expected:.2f} there; it may lie in [{100 * low:.1f}, {100 * high:.1f}]."
    return Held(control, dataset, expected, observed, n, low, high, word, said, _command(control, sets))


def _variance(control: Control, ours: Outcome) -> float:
    """Of the difference on one set: ours is a part of the set that the source measured whole, or each took a part."""
    p, n = ours.attacked_accuracy, ours.n
    if control.samples is not None:
        return p * (1 - p) * (1 / n + 1 / control.samples)
    whole = natural_sets()[ours.cell.dataset].samples
    return p * (1 - p) / n * (max(0, whole - n) / (whole - 1) if whole else 1)


def _rounding(control: Control) -> float:
    """Half of the last digit that the source prints; means have one decimal."""
    return 0.005 * 10.0 ** -(1 if control.mean is not None else control.decimals)


def _command(control: Control, sets: Sequence[str]) -> str:
    limit = control.samples or 1_000_000
    named = " ".join(f"--dataset {name}" for name in sets)
    if control.recall:  # any attack tells the clean ranks as well
        return (
            f"gauntlet data get {sets[0]} && gauntlet retrieval --method {control.method} --backbone {BACKBONE} "
            f"{named} --attack sep --limit {limit} --device cuda"
        )
    return (
        f"gauntlet run --method {control.method} --backbone {BACKBONE} {named} --protocol {control.protocol} "
        f"--limit {limit} --device cuda --allow-network"
    )
