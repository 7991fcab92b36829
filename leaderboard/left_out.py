"""What lies here and cannot be used, of all kinds of parts: whoever uses the rest can then say what is left out."""

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import Parts

# Modules with a `parts()`. They are named and not imported: a command pays only for those that it uses.
METHODS = "vlm_gauntlet.methods.registry"
CLAIMS = (
    "vlm_gauntlet.fixtures.sources",
    "vlm_gauntlet.fixtures.reported",
    "vlm_gauntlet.methods.claims",
    "vlm_gauntlet.methods.responses",
)
MINI_CLAIMS = "vlm_gauntlet.suites.mini_claims"
TRAININGS = "vlm_gauntlet.leaderboard.trainings"
RECIPES = ("vlm_gauntlet.attacks.registry", "vlm_gauntlet.attacks.protocols", "vlm_gauntlet.suites.tiers")
INSTALLED = "vlm_gauntlet.suites.described"
EVERYTHING = (METHODS, INSTALLED, *RECIPES, *CLAIMS, MINI_CLAIMS, TRAININGS)


@dataclass(frozen=True)
class LeftOut:
    """One part that cannot be used.

    Args:
        outside: an installed package brings it: no part of this project is missing.
    """

    kind: str
    name: str
    error: GauntletError
    outside: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}: {self.error.short}"


def left_out(*modules: str, own: bool = False) -> list[LeftOut]:
    """What cannot be used of the kinds in these modules (default: all); with `own`, of this project alone."""
    found = [lost for name in modules or EVERYTHING for lost in _of(import_module(name).parts())]
    return [lost for lost in found if not (own and lost.outside)]


def left_out_so_far() -> list[LeftOut]:
    """The same of the kinds that this process has read."""
    loaded = [name for name in EVERYTHING if (module := sys.modules.get(name)) and module.parts.cache_info().currsize]
    return left_out(*loaded) if loaded else []


def _of(parts: Parts[Any]) -> list[LeftOut]:
    return [LeftOut(parts.kind, n, e, n in parts.outside) for n, e in parts.unusable.items()]
