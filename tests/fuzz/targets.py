"""The parsers that read what anybody can write, each with good files of this project to begin with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .mutations import Form


@dataclass(frozen=True)
class Target:
    """One parser.

    Args:
        name: of the file, as users know it.
        seeds: good files: trees for a form that writes them, bytes for `as_bytes`.
        form: how a tree is written.
        read: writes the bytes somewhere below the folder and reads them as the product does.
    """

    name: str
    seeds: Sequence[Any]
    form: Form
    read: Callable[[bytes, Path], object]


@cache
def targets() -> dict[str, Target]:
    """All of them by name."""
    from . import of_code, of_data, of_records

    found = [*of_records.targets(), *of_code.targets(), *of_data.targets()]
    made = {target.name: target for target in found}
    assert len(made) == len(found)
    return made
