"""Outcomes in which one number grows and all else is equal: steps of an attack, a numeric switch of a method."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol, canonical
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.registry import methods

from .formatting import file_name
from .statistics import Estimate, mean_of
from .worst_case import robust_fractions

LEAST = 3  # points of a series
STEPS = "attack steps"


@dataclass(frozen=True)
class Point:
    """One outcome of a series.

    Args:
        value: of the number that grows.
        clean, robust: accuracies of the same samples; the attacker may hand in the clean image.
        outcome: the key of the file.
    """

    value: Fraction
    clean: Estimate
    robust: Estimate
    outcome: str


@dataclass(frozen=True)
class Series:
    """Points in ascending order.

    Args:
        knob: the number that grows: `attack steps`, or a switch's name.
        method: without that switch.
        attack: title of the attack, or its protocol's id.
    """

    knob: str
    method: str
    backbone: str
    dataset: str
    attack: str
    seed: int
    points: tuple[Point, ...]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return file_name(f"{self.knob}-{self.method}-{self.backbone}-{self.dataset}-{self.attack}-{self.seed}")

    @property
    def subject(self) -> str:
        """What it is of, in words."""
        return f"{self.method}, {self.dataset}, {self.backbone}"


def series(outcomes: Sequence[Outcome]) -> list[Series]:
    """What has three values or more of one number on the same samples; of repeated cells the latest counts."""
    groups: dict[tuple[object, ...], dict[Fraction, Outcome]] = defaultdict(dict)
    for outcome in sorted(outcomes, key=lambda o: (o.provenance.made, o.key)):
        for knob, value, rest in _knobs(outcome):
            groups[(knob, *rest)][value] = outcome
    found = [_series(str(key[0]), key, points) for key, points in groups.items() if len(points) >= LEAST]
    return sorted(found, key=lambda one: (one.knob, one.backbone, one.dataset, one.method, one.attack, one.seed))


def _series(knob: str, key: tuple[object, ...], points: dict[Fraction, Outcome]) -> Series:
    first = next(iter(points.values()))
    cell = first.cell
    return Series(
        knob, str(key[1]), cell.backbone, cell.dataset, _attack(knob, cell.protocol), cell.seed,
        tuple(_point(value, points[value]) for value in sorted(points)),
    )  # fmt: skip


def _attack(knob: str, protocol: Protocol) -> str:
    threat = protocol.threat
    if knob == STEPS:
        return f"{protocol.attack.name}, {threat.knowledge}, eps {threat.eps}"
    return protocol.id


def _point(value: Fraction, outcome: Outcome) -> Point:
    clean = mean_of([sample.clean / outcome.draws for sample in outcome.samples])
    return Point(value, clean, mean_of([*robust_fractions(outcome).values()]), outcome.key)


def _knobs(outcome: Outcome) -> Iterator[tuple[str, Fraction, tuple[object, ...]]]:
    """(what grows, its value, everything else) of an outcome."""
    cell, ids = outcome.cell, frozenset(sample.id for sample in outcome.samples)
    data = (cell.dataset, cell.dataset_digest, cell.prompts_digest, ids)
    place = (cell.backbone, cell.backbone_digest, *data, cell.seed)
    if cell.protocol.attack.name == NO_ATTACK:
        return
    if steps := _steps(cell.protocol):
        # The code of an attack is one for all of its steps.
        yield STEPS, steps, (cell.method, *place, cell.method_digest, cell.code_digest, _without_steps(cell.protocol))
    for name, value, method in _switches(cell.method):
        yield name, value, (method, *place, cell.protocol.digest)


@cache
def _steps(protocol: Protocol) -> Fraction | None:
    try:
        steps = getattr(build(protocol), "steps", None)
    except GauntletError:  # an attack from outside, which is not here
        return None
    return Fraction(steps) if isinstance(steps, int) and steps > 0 else None


@cache
def _without_steps(protocol: Protocol) -> str:
    rest = {name: value for name, value in protocol.attack.parameters.items() if name != "steps"}
    attack = protocol.attack.model_validate({"name": protocol.attack.name, **rest})
    return canonical(protocol.model_copy(update={"attack": attack}), exclude={"id", "title"})


def _switches(label: str) -> Iterator[tuple[str, Fraction, str]]:
    """(switch, value, method without it) of the numeric switches of a method, those at their default too."""
    own, at, below = label.partition("@")
    stem, *chosen = own.split("+")
    switches = dict(word.split("=", 1) for word in chosen if "=" in word)
    defence = methods().get(stem)
    if defence is None or len(switches) != len(chosen):
        return
    for deviation in defence.card.deviations:
        values = [_number(choice) for choice in deviation.choices]
        value = _number(switches.get(deviation.name, deviation.choices[0]))
        if value is not None and sum(v is not None for v in values) >= LEAST:
            others = "".join(f"+{n}={v}" for n, v in sorted(switches.items()) if n != deviation.name)
            yield deviation.name, value, f"{stem}{others}{at}{below}"


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ValueError:
        return None
