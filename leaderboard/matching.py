"""Which outcomes speak of a claim: its protocol against theirs, field by field."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vlm_gauntlet.attacks.registry import as_reported, attacks, default_of, parameters
from vlm_gauntlet.fixtures.natural_sets import population, reported_as
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.fixtures.reported import Component, ReportedProtocol, reported_protocol
from vlm_gauntlet.methods.claims import Claim
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.methods.released import of_label
from vlm_gauntlet.suites.runnable import PREPROCESSING, PROMPTS, STORED, reduction_matters
from vlm_gauntlet.training.pins import read_pins

BACKBONES = {
    "ViT-B/32": "open_clip:ViT-B-32-quickgelu/openai",
    "ViT-B/16": "open_clip:ViT-B-16-quickgelu/openai",
    "ViT-L/14": "open_clip:ViT-L-14-quickgelu/openai",
    "RN50": "open_clip:RN50-quickgelu/openai",
    "RN101": "open_clip:RN101-quickgelu/openai",
}


@dataclass(frozen=True)
class Difference:
    """One field in which an outcome is not what the claim says."""

    field: str
    claimed: str
    run: str

    def __str__(self) -> str:
        return f"{self.field}: claimed {self.claimed}, run {self.run}"


@dataclass(frozen=True)
class NearMiss:
    """An outcome of the same method and data set that does not count, and why."""

    outcome: Outcome
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Match:
    """What there is to compare a claim with.

    Args:
        outcomes: one for each component of the claim's attack, on the same samples; empty where there is none.
        near: other outcomes of the method on the data set, nearest first.
    """

    outcomes: tuple[Outcome, ...]
    near: tuple[NearMiss, ...]


def match(claim: Claim, outcomes: Sequence[Outcome]) -> Match:
    """Finds the outcomes that count for a claim, and those that nearly do."""
    reported = reported_protocol(claim.protocol)
    found: dict[str, dict[str, Outcome]] = defaultdict(dict)  # sample set -> component -> newest outcome
    near = []
    for outcome in sorted(outcomes, key=lambda o: (o.provenance.made, o.key)):
        if outcome.cell.method.partition("+")[0] != claim.method or reported_as(outcome.cell.dataset) != claim.dataset:
            continue
        component, apart = against(claim.protocol, claim.dataset, outcome.cell.dataset, outcome.cell.protocol)
        differences = (*_differing(_of_models(claim, outcome)), *apart)
        if differences:
            near.append(NearMiss(outcome, differences))
        else:
            ids = f"{outcome.cell.dataset_digest} {outcome.n} {outcome.samples[0].id} {outcome.samples[-1].id}"
            found[ids]["none" if component is None else component.attack] = outcome
    wanted = {c.attack for c in reported.components} or {"none"}
    whole = [tuple(by_attack.values()) for by_attack in found.values() if by_attack.keys() == wanted]
    largest = max(whole, key=lambda group: group[0].n, default=())
    return Match(largest, tuple(sorted(near, key=lambda m: len(m.differences))))


def _component(reported: ReportedProtocol, protocol: Protocol) -> Component | None:
    """The component that an outcome's attack answers; the first one where none has its name."""
    named = [c for c in reported.components if c.attack == protocol.attack.name]
    loss = protocol.attack.parameters.get("loss")
    return next(iter(sorted(named, key=lambda c: c.loss != loss) or reported.components), None)


def _differing(fields: Iterable[tuple[str, object, object]]) -> Iterator[Difference]:
    for field, claimed, run in fields:
        if str(claimed) != str(run):
            yield Difference(field, str(claimed), str(run))


@cache
def against(name: str, dataset: str, taken: str, run: Protocol) -> tuple[Component | None, tuple[Difference, ...]]:
    """The component of a reported protocol that a run on the set `taken` answers, and where they differ."""
    reported = reported_protocol(name)
    component = _component(reported, run)
    return component, tuple(_differing(_fields(reported, component, dataset, taken, run)))


def _of_models(claim: Claim, outcome: Outcome) -> Iterator[tuple[str, object, object]]:
    cell = outcome.cell
    weights = of_label(cell.method, cell.backbone)
    variant = cell.method.partition("+")[2] if weights is None else weights.variant
    yield "variant", claim.variant or "none", variant or "none"
    yield "backbone", BACKBONES.get(claim.backbone, claim.backbone), cell.backbone
    yield "trained on", claim.trained_on, _trained_on(outcome)


def _fields(
    reported: ReportedProtocol, component: Component | None, dataset: str, taken: str, protocol: Protocol
) -> Iterator[tuple[str, object, object]]:
    threat, run = protocol.threat, parameters(protocol.attack)
    yield "attack", "none" if component is None else component.attack, protocol.attack.name
    yield "norm", reported.norm, threat.norm
    yield "eps", reported.eps, threat.eps
    yield "knowledge", reported.knowledge, threat.knowledge
    yield "prompts", PROMPTS.get(reported.prompts, reported.prompts), protocol.evaluation.prompts
    yield (
        "preprocessing",
        PREPROCESSING.get(reported.preprocessing, reported.preprocessing),
        protocol.evaluation.preprocessing,
    )
    yield "precision", reported.precision, run.get("precision", "fp32")
    yield "samples", population(reported.samples, dataset), population("whole test split", taken)
    if component is None:
        return
    yield "modality", reported.modality, threat.modality
    yield "attack resolution", reported.resolution_for(dataset), threat.attack_resolution
    yield "quantised", STORED.get(reported.quantised, reported.quantised), protocol.evaluation.stored
    yield from _parameters(reported, component, protocol, run)


def _parameters(
    reported: ReportedProtocol, component: Component, protocol: Protocol, run: Mapping[str, object]
) -> Iterator[tuple[str, object, object]]:
    """The attack's parameters: those that sources state, and the rest, which by any other value has another name."""
    if (kind := attacks().get(protocol.attack.name)) is None:
        yield "attack", component.attack, f"{protocol.attack.name}, which is not known here"
        return
    names = as_reported(kind)
    for name in component.choices:
        if name != "reduction" or reduction_matters(reported, component):
            yield name.replace("_", " "), getattr(component, name), run.get(names.get(name, name), "none")
    for stated, name in names.items():
        if name == "text":
            swap = dict(run[name] or ())  # type: ignore[call-overload]
            for part, value in swap.items():
                yield f"text {part.replace('_', ' ')}", getattr(reported.text, part), value
        elif stated not in Component.model_fields and name != "precision":
            yield name.replace("_", " "), default_of(kind, name), run[name]


def _trained_on(outcome: Outcome) -> str:
    """Training data of the run's model, from the checkpoint's pin; `none` for a method that trains no model.

    A training-free method's weights are an instrument beside the model (a diffusion prior), not the model.
    """
    if weights := of_label(outcome.cell.method, outcome.cell.backbone):
        return weights.trained_on
    return _tuned_on(outcome.cell.method.partition("+")[0], outcome.cell.backbone)


@cache
def _tuned_on(stem: str, backbone: str) -> str:
    if stem not in methods():
        return "unknown"
    defence = methods()[stem]
    if not defence.card.weights or defence.card.paradigm == "training-free":
        return "none"
    pin = read_pins(Path(inspect.getfile(defence)).parent).get(backbone)
    return pin.trained_on if pin else "unknown"
