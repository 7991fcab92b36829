"""What a command knows of a defence from outside: its code is imported in a process of its own, and never in this one.

At its import it may end the process, hang or eat memory: that is one error, and all other methods go on.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import Parts
from vlm_gauntlet.methods import registry
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.methods.registry import Method, from_outside, method

from .apart import Apart, Limits
from .keys import cell_code

LIMITS = Limits(seconds=60, memory=16 * 2**30)


@dataclass(frozen=True)
class Described:
    """A defence from outside, as its own process tells of it.

    Args:
        name: as `methods.registry.method` knows it there.
        label, card: see `Method`.
        parts: those that it offers, such as `unrolled`.
    """

    name: str
    label: str
    card: Card
    parts: frozenset[str]
    outside: ClassVar[bool] = True

    def offers(self, part: str) -> bool:
        """See Defence."""
        return part in self.parts


def described(name: str) -> Method | Described:
    """A method by its name; one from outside as it tells of itself.

    Raises:
        GauntletError: as `methods.registry.method`; or its import ends the process, or takes too long or too much.
    """
    if not from_outside(name):
        return method(name)
    return _told(name, os.getcwd(), tuple(sys.path))


@cache
def _told(name: str, *_where: object) -> Described:
    with Apart(Stand, name, what=f"import of {name}", limits=LIMITS) as there:
        label, card, parts = there.ask("told")
    return Described(name, label, Card.model_validate_json(card), frozenset(parts))


def reachable(names: Sequence[str]) -> tuple[list[str], dict[str, GauntletError]]:
    """Splits names: all but those from outside that cannot be imported, and why these cannot."""
    broken = {}
    for name in filter(from_outside, names):
        try:
            described(name)
        except GauntletError as error:
            broken[name] = error
    return [name for name in names if name not in broken], broken


def code_of(chosen: Method | Described, backbone: str) -> str:
    """See `keys.cell_code`."""
    if isinstance(chosen, Method):
        return cell_code(chosen, backbone)
    with Apart(Stand, chosen.name, what=f"import of {chosen.name}", limits=LIMITS) as there:
        return str(there.ask("code", backbone))


@cache
def parts() -> Parts[Described]:
    """The defences that installed packages bring, by name, and those that do not import."""
    found = Parts[Described]("method")
    for name, entry in registry.parts().entries.items():
        with found.trying(name, f"entry point {entry.value}", outside=True):
            told = described(name)
            if isinstance(told, Described):
                found.usable[name] = told
    return found


class Stand:
    """What lives in the process.

    Args:
        name: of the method.
    """

    def __init__(self, name: str) -> None:
        self.method = method(name)

    def told(self) -> tuple[str, str, list[str]]:
        """Label, card and parts, as plain values."""
        parts = [part for part in vars(Defence) if not part.startswith("_") and self.method.offers(part)]
        return self.method.label, self.method.card.model_dump_json(), parts

    def code(self, backbone: str) -> str:
        """See `keys.cell_code`."""
        return cell_code(self.method, backbone)
