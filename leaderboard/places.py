"""Where the page of a data set, an attack, a protocol or a backbone lies, from the front page's folder."""

from functools import cache

from vlm_gauntlet.attacks.protocols import parts as protocol_files
from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.fixtures.datasets import EMBEDDED
from vlm_gauntlet.fixtures.embedded import embedded
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.fixtures.reported import reported_protocols

from .formatting import file_name
from .matching import BACKBONES

ELSEWHERE = "elsewhere"  # the page of protocols that outcomes name and nobody knows here


@cache
def known_sets() -> tuple[str, ...]:
    """Data sets that have a page, whether or not anything was run on them."""
    own = {marker.parent.name for marker in EMBEDDED.glob("*/test")}
    return tuple(sorted({*own, *natural_sets(), *known_datasets().dataset}))


@cache
def known_backbones() -> tuple[str, ...]:
    """Backbones that have a page: the embedded ones, and those that papers report on."""
    return (*embedded(), *BACKBONES.values())


@cache
def stems() -> dict[str, str]:
    """Id of a protocol of ours -> stem of its file."""
    return {p.id: stem for stem, made in protocol_files().usable.items() for p in made if p.id in protocols()}


def dataset_page(name: str) -> str:
    """Page of a data set that is known, or that an outcome names."""
    return f"datasets/{file_name(name)}.html"


def reported_set_page(name: str) -> str:
    """Page of what a claim names as its data: one set, or the list over which it averages; empty for an unnamed one."""
    if name in known_datasets().list:
        return f"reference.html#list-{file_name(name)}"
    return dataset_page(name) if name in known_datasets().dataset else ""


def attack_page(name: str) -> str:
    """Page of an attack."""
    return f"attacks/{file_name(name)}.html"


def family_page(stem: str, *, reported: bool = False) -> str:
    """Page of a file of protocols."""
    return f"protocols/{'reported/' if reported else ''}{file_name(stem)}.html"


def protocol_page(name: str) -> str:
    """Place of a protocol, of ours or a reported one, on the page of its family."""
    if stem := stems().get(name):
        return f"{family_page(stem)}#{file_name(name)}"
    if known := reported_protocols().get(name.partition(":")[0]):
        return f"{family_page(known.family, reported=True)}#{file_name(known.id)}"
    return f"{family_page(ELSEWHERE)}#{file_name(name)}"


def named_protocol_page(name: str) -> str:
    """Place of a protocol that no outcome names; empty where its file cannot be read."""
    return protocol_page(name) if name in stems() or name in reported_protocols() else ""


def backbone_page(name: str) -> str:
    """Page of a backbone that is known, or that an outcome names."""
    return f"backbones/{file_name(name)}.html"


def reported_backbone_page(name: str) -> str:
    """Page of what a claim calls its backbone; empty where no weights are known for it."""
    return backbone_page(BACKBONES[name]) if name in BACKBONES else ""
