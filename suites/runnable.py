"""From a reported protocol to protocols that run here, or the reasons why none does."""

from collections.abc import Iterator
from dataclasses import dataclass

from vlm_gauntlet.attacks.build import build_attack
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, problems, unknown_name
from vlm_gauntlet.fixtures.prompts import template_sets
from vlm_gauntlet.fixtures.protocols import Protocol, protocols
from vlm_gauntlet.fixtures.reported import (
    CW,
    Component,
    ReportedProtocol,
    lost,
    reported_protocol,
    reported_protocols,
)

PREPROCESSING = {"resize-224-bicubic-crop": "resize-crop", "resize-256-bilinear-crop-224": "resize-256-crop"}
PRECISION = ("fp32", "amp-fp16")
# (Reported attack, modality), where our name of the attack on images is another.
OURS = {("sep-attack", "both"): "pgd", (CW, "image"): "pgd"}
SIGN_STEPS = ("pgd", "fgsm", "co-attack", "sga")


@dataclass(frozen=True)
class Runnable:
    """One protocol a component; `obstacles` says in words what keeps it from running, and is empty where it runs."""

    protocols: tuple[Protocol, ...]
    obstacles: tuple[str, ...]


def runnable(reported: ReportedProtocol, dataset: str) -> Runnable:
    """What a reported protocol asks for on a data set, as protocols of ours."""
    obstacles = list(_obstacles(reported))
    made: list[Protocol] = []
    if not obstacles:
        try:
            made = [_protocol(reported, dataset, c) for c in reported.components or (None,)]
            for protocol in made:
                build_attack(protocol, deterministic=True)
        except GauntletError as error:
            obstacles.append(f"{error.came} (expected {error.expected})")
        except ValueError as error:  # a value that our protocols do not have
            obstacles.extend(problems(error))
    return Runnable(() if obstacles else tuple(made), tuple(obstacles))


def our_attack(reported: ReportedProtocol, component: Component) -> str:
    """What we call a reported attack: the one on images, where images and text are attacked apart."""
    return OURS.get((component.attack, reported.modality), component.attack)


def _obstacles(reported: ReportedProtocol) -> Iterator[str]:
    if reported.retrieval:
        yield "retrieval of captions is no cell of a classifier; `gauntlet retrieval` attacks it and prints R@k"
    if unknown := reported.unknown_fields():
        yield f"the source does not say: {', '.join(unknown)}"
    if reported.defect:
        yield reported.defect
    if any(c.random_start == "one-sided" for c in reported.components):
        yield "a random start in [0, eps] is not built: ours lies in [-eps, eps]"
    if reported.quantised is True:
        yield "images that pass through 8 bits are not built yet"
    if reported.precision not in (*PRECISION, "unknown"):
        yield f"attacks in {reported.precision} are not built yet"
    if reported.prompts not in (*template_sets(), "unknown") and not reported.retrieval:
        yield f"prompts {reported.prompts!r} are not here"
    if reported.preprocessing not in (*PREPROCESSING, "unknown"):
        yield f"preprocessing {reported.preprocessing!r} is not built"
    if reported.knowledge == "adaptive":
        yield "an adaptive attack has no recipe that a protocol could name"


def reduction_matters(reported: ReportedProtocol, component: Component) -> bool:
    """Sign steps in fp32 do not see a positive factor of the loss: sum and mean over the batch step alike."""
    steps = our_attack(reported, component) in SIGN_STEPS
    return not (steps and reported.norm == "linf" and reported.precision == "fp32")


def _protocol(reported: ReportedProtocol, dataset: str, component: Component | None) -> Protocol:
    fields: dict[str, object] = {} if component is None else component.model_dump(include=set(component.choices))
    if component is not None and not reduction_matters(reported, component):
        fields["reduction"] = "sum"
    several = component is not None and len(reported.components) > 1
    resolution = reported.resolution_for(dataset)
    return Protocol.model_validate({
        **fields,
        "attack": "none" if component is None else our_attack(reported, component),
        "id": f"{reported.id}:{component.attack}" if several and component else reported.id,
        "title": reported.title,
        "threat": {
            "norm": reported.norm, "eps": str(reported.eps), "knowledge": reported.knowledge,
            "modality": "image" if component is None else reported.modality,
            "attack_resolution": "model" if component is None else resolution,
        },
        "text": reported.text.model_dump() if reported.attacks_text else None,
        "precision": reported.precision,
        "prompts": reported.prompts,
        "preprocessing": PREPROCESSING[reported.preprocessing],
    })  # fmt: skip


def protocols_named(name: str, dataset: str) -> list[Protocol]:
    """The protocols behind a name on a data set: one of ours, or those of a reported protocol.

    Raises:
        UnavailableError: the reported protocol cannot run here, with the reasons.
        GauntletError: nobody knows the name, with near misses.
    """
    if name in protocols():
        return [protocols()[name]]
    if name not in reported_protocols() and not lost(name):
        raise unknown_name("protocol", name, {*protocols(), *reported_protocols()}, "--protocol")
    found = runnable(reported_protocol(name), dataset)
    if found.obstacles:
        raise UnavailableError(
            f"reported protocol {name!r} does not run here", expected="every field known, every part built",
            where="fixtures/data/reported", fix="; ".join(found.obstacles),
        )  # fmt: skip
    return list(found.protocols)
