"""Looks for defences in the folders of this package and among entry points; a broken one is kept with its error.

Of an entry point only the name is read here: its code is somebody else's, and runs where a method is asked for by name.
"""

import importlib
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import ANYTHING, Parts, raised

from .base import Defence
from .data_files import is_ours
from .listed import folders, how_many, installed, plain, read_folder, source_of, taken


@dataclass
class Found(Parts[type[Defence]]):
    """The defences of the folders, and beside them the entry points, which never take a folder's name."""

    entries: dict[str, EntryPoint] = field(default_factory=dict)

    @property
    def taken(self) -> set[str]:
        """Names and titles that no entry point may have, as the eye compares them."""
        return taken(self, (defence.card.name for defence in self.usable.values()))


def discover() -> Found:
    """Every defence of a folder by id, and every entry point, which is not loaded, by name."""
    found = Found("method")
    for folder in folders():
        with found.trying(folder.name, str(folder)):
            found.usable[folder.name] = _of_folder(folder)
    found.entries = installed(found, found.taken)
    return found


def _of_folder(folder: Path) -> type[Defence]:
    """The one defence of a method's folder, after its card and pins were read: code runs last."""
    read_folder(folder)
    module = importlib.import_module(f"vlm_gauntlet.methods.{folder.name}.method")
    own = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Defence)
           and v.__module__ == module.__name__]  # fmt: skip
    if len(own) != 1:
        raise how_many(len(own), folder)
    return own[0]


def loaded(entry: EntryPoint, found: Found) -> type[Defence]:
    """The defence of an entry point: its code is imported into this process.

    Raises:
        GauntletError: it does not load, is no defence, or calls itself like a method of the package.
    """
    try:
        defence = entry.load()
    except GauntletError:
        raise
    except ANYTHING as error:
        raise raised("entry point", error, source_of(entry)) from error
    if not (isinstance(defence, type) and issubclass(defence, Defence) and hasattr(defence, "card")):
        raise GauntletError(
            f"an entry point that loads {defence!r}", expected="a subclass of vlm_gauntlet.methods.base.Defence",
            where=source_of(entry), fix="let it name the class: package.module:Class",
        )  # fmt: skip
    if any(plain(name) in found.taken for name in (defence.card.id, defence.card.name)) and not is_ours(defence):
        raise GauntletError(
            f"an entry point whose card says {defence.card.name!r}, as that of a built-in method does",
            expected="a card of its own", where=source_of(entry), fix="give its card another id and another name",
        )  # fmt: skip
    return defence
