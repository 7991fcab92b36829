"""Versions that an outcome was made with, and how those that decide numbers differ from this machine's."""

import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from types import MappingProxyType

RECORDED = ("vlm-gauntlet", "torch", "torchvision", "open_clip_torch", "pyautoattack", "numpy")
DECIDING = ("torch", "torchvision", "open_clip_torch", "pyautoattack")


@cache
def versions_here() -> Mapping[str, str]:
    """What an outcome that is made now records."""
    return MappingProxyType({"python": platform.python_version(), **{name: version(name) for name in RECORDED}})


def other_versions(made_with: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Packages that decide numbers and had another version: name -> (then, here).

    The part after a plus says for which processor a release was built, which the outcome's device tells.
    """
    here = versions_here()
    pairs = {name: (made_with[name], here[name]) for name in DECIDING if name in made_with}
    return {name: pair for name, pair in pairs.items() if _release(pair[0]) != _release(pair[1])}


def version_words(made_with: Mapping[str, str]) -> str:
    """`made with torch 2.9.0; here 2.11.0`, or nothing where no version differs."""
    other = other_versions(made_with)
    then = ", ".join(f"{name} {old}" for name, (old, _) in other.items())
    return f"made with {then}; here {', '.join(new for _, new in other.values())}" if other else ""


def versions_told(outcomes: Iterable[Mapping[str, str]]) -> str:
    """Of many outcomes, which packages had which other versions: `torch 2.9.0 (here 2.11.0)`, sorted."""
    found = {(name, *pair) for made_with in outcomes for name, pair in other_versions(made_with).items()}
    return ", ".join(f"{name} {old} (here {new})" for name, old, new in sorted(found))


def _release(name: str) -> str:
    return name.partition("+")[0]
