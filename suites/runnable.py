"""From a reported protocol to protocols that run here, or the reasons why none does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlm_gauntlet.attacks.protocols import lost as lost_file
from vlm_gauntlet.attacks.protocols import protocol, protocols, read_protocols
from vlm_gauntlet.attacks.registry import as_reported, attack, build, choice
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, problems, unknown_name
from vlm_gauntlet.fixtures.natural_sets import natural_sets, set_of
from vlm_gauntlet.fixtures.prompts import template_sets
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol, Stored
from vlm_gauntlet.fixtures.reported import Component, ReportedProtocol, lost, reported_protocol, reported_protocols

PREPROCESSING = {"resize-224-bicubic-crop": "resize-crop", "resize-256-bilinear-crop-224": "resize-256-crop"}
PROMPTS = {"openai-ensemble": "dataset"}  # CLIP_benchmark's sentences, which its copies of the sets on the hub bring
STORED: dict[bool | str, Stored] = {False: "floats", "truncated": "truncated", "rounded": "rounded"}
PRECISION = ("fp32", "amp-fp16")
ONE_SIDED = ("co-attack", "sga", "dra")  # may start in [0, eps]
SIGN_STEPS = ("pgd", "cw-pgd", "sep-attack", "fgsm", "co-attack", "sga")


@dataclass(frozen=True)
class Runnable:
    """One protocol a component; `obstacles` says in words what keeps it from running, and is empty where it runs."""

    protocols: tuple[Protocol, ...]
    obstacles: tuple[str, ...]


def runnable(reported: ReportedProtocol, dataset: str) -> Runnable:
    """What a reported protocol asks for on a data set, as protocols of ours."""
    obstacles = list(_obstacles(reported, dataset))
    made: list[Protocol] = []
    if not obstacles:
        try:
            made = [_protocol(reported, dataset, c) for c in reported.components or (None,)]
            for protocol in made:
                build(protocol)
        except GauntletError as error:
            obstacles.append(f"{error.came} (expected {error.expected})")
        except ValueError as error:  # a value that our protocols do not have
            obstacles.extend(problems(error))
    return Runnable(() if obstacles else tuple(made), tuple(obstacles))


def _obstacles(reported: ReportedProtocol, dataset: str) -> Iterator[str]:
    if reported.retrieval:
        yield "retrieval of captions is no cell of a classifier; `gauntlet retrieval` attacks it and prints R@k"
    if unknown := reported.unknown_fields():
        yield f"the source does not say: {', '.join(unknown)}"
    if reported.defect:
        yield reported.defect
    if any(c.random_start == "one-sided" and c.attack not in ONE_SIDED for c in reported.components):
        yield "a random start in [0, eps] is not built: ours lies in [-eps, eps]"
    if reported.quantised is True:
        yield "the source does not say how images became 8 bits: cut off, or rounded"
    if reported.precision not in (*PRECISION, "unknown"):
        yield f"attacks in {reported.precision} are not built yet"
    if reported.prompts not in (*template_sets(), *PROMPTS, "unknown") and not reported.retrieval:
        yield f"prompts {reported.prompts!r} are not here"
    own = natural_sets().get(set_of(reported.samples, dataset))
    whole = natural_sets().get(own.part_of) if own and own.part_of else own
    if reported.prompts in PROMPTS and not (whole and whole.hub):
        yield f"prompts {reported.prompts!r} come with a set of the hub, and no commit of {dataset!r} is known there"
    if reported.preprocessing not in (*PREPROCESSING, "unknown"):
        yield f"preprocessing {reported.preprocessing!r} is not built"
    if reported.knowledge == "adaptive":
        yield "an adaptive attack has no recipe that a protocol could name"


def reduction_matters(reported: ReportedProtocol, component: Component) -> bool:
    """Sign steps in fp32 do not see a positive factor of the loss: sum and mean over the batch step alike."""
    steps = component.attack in SIGN_STEPS
    return not (steps and reported.norm == "linf" and reported.precision == "fp32")


def _protocol(reported: ReportedProtocol, dataset: str, component: Component | None) -> Protocol:
    several = component is not None and len(reported.components) > 1
    resolution = reported.resolution_for(dataset)
    return Protocol.model_validate({
        "id": f"{reported.id}:{component.attack}" if several and component else reported.id,
        "title": reported.title,
        "threat": {
            "norm": reported.norm, "eps": str(reported.eps), "knowledge": reported.knowledge,
            "modality": "image" if component is None else reported.modality,
            "attack_resolution": "model" if component is None else resolution,
        },
        "attack": choice(NO_ATTACK if component is None else component.attack, _parameters(reported, component),
                         where=f"reported protocol {reported.id}"),
        "evaluation": {
            "prompts": PROMPTS.get(reported.prompts, reported.prompts),
            "preprocessing": PREPROCESSING[reported.preprocessing],
            "stored": "floats" if component is None else STORED[reported.quantised],
        },
    })  # fmt: skip


def _parameters(reported: ReportedProtocol, component: Component | None) -> dict[str, object]:
    """What a source says of an attack, under the names that the attack gives to its parameters."""
    if component is None:
        return {}
    stated = component.model_dump(include=set(component.choices))
    if not reduction_matters(reported, component):
        stated["reduction"] = "sum"
    if reported.precision != "fp32":
        stated["precision"] = reported.precision
    if reported.attacks_text:
        stated["text"] = reported.text.model_dump()
    names = as_reported(attack(component.attack, where=f"reported protocol {reported.id}"))
    return {names.get(name, name): value for name, value in stated.items()}


def protocols_named(name: str, dataset: str) -> list[Protocol]:
    """The protocols behind a name on a data set: one of ours, those of a reported protocol, or those of a file.

    Raises:
        UnavailableError: the reported protocol cannot run here, with the reasons.
        GauntletError: nobody knows the name, with near misses.
    """
    if name.endswith(".toml"):
        return read_protocols(Path(name))
    if name in protocols() or lost_file(name):
        return [protocol(name)]
    if name.partition("+")[0] not in reported_protocols() and not lost(name):
        raise unknown_name("protocol", name, {*protocols(), *reported_protocols()}, "--protocol")
    found = runnable(reported_protocol(name), dataset)
    if found.obstacles:
        raise UnavailableError(
            f"reported protocol {name!r} does not run here", expected="every field known, every part built",
            where="fixtures/data/reported", fix="; ".join(found.obstacles),
        )  # fmt: skip
    return list(found.protocols)
