"""Looks for defences in the folders of this package and among entry points; a broken one is kept with its error.

Of an entry point only the name is read here: its code is somebody else's, and runs where a method is asked for by name.
"""

import importlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import ANYTHING, Parts, is_there, raised
from vlm_gauntlet.training.checkpoint import read_pins

from .base import Defence
from .card import read_card
from .data_files import is_ours

HERE = Path(__file__).parent
GROUP = "vlm_gauntlet.methods"
# Cyrillic and Greek letters that are drawn like Latin ones, and digits that are.
LOOK_ALIKE = str.maketrans("аеорсухіѕԁոαοερτν01", "aeopcyxisdnaoeptvol")


@dataclass
class Found(Parts[type[Defence]]):
    """The defences of the folders, and beside them the entry points, which never take a folder's name."""

    entries: dict[str, EntryPoint] = field(default_factory=dict)

    @property
    def taken(self) -> set[str]:
        """Names and titles that no entry point may have, as the eye compares them."""
        titles = (defence.card.name for defence in self.usable.values())
        return {plain(name) for name in (*self.usable, *self.unusable.keys() - self.outside, *titles)}


def discover() -> Found:
    """Every defence of a folder by id, and every entry point, which is not loaded, by name."""
    found = Found("method")
    for folder in sorted(p for p in HERE.iterdir() if is_there(p / "card.toml") or is_there(p / "method.py")):
        with found.trying(folder.name, str(folder)):
            found.usable[folder.name] = _of_folder(folder)
    found.entries = installed(found)
    return found


def _of_folder(folder: Path) -> type[Defence]:
    """The one defence of a method's folder, after its card and pins were read: code runs last."""
    read_card(folder)
    read_pins(folder)
    if not is_there(folder / "method.py"):
        raise GauntletError(
            "a card without a method.py", expected="card.toml and method.py side by side", where=str(folder),
            fix="write method.py; a method that is only claimed needs no card",
        )  # fmt: skip
    module = importlib.import_module(f"vlm_gauntlet.methods.{folder.name}.method")
    own = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Defence)
           and v.__module__ == module.__name__]  # fmt: skip
    if len(own) != 1:
        raise GauntletError(
            f"{len(own)} defences in method.py", expected="exactly one subclass of Defence", where=str(folder),
            fix="keep helpers private to other modules of the folder",
        )  # fmt: skip
    return own[0]


def installed(found: Found) -> dict[str, EntryPoint]:
    """The entry points that may be used, by name; the others are refused among what was found."""
    usable: dict[str, EntryPoint] = {}
    by_name: dict[str, set[EntryPoint]] = defaultdict(set)
    for entry in _entries(found):
        by_name[entry.name].add(entry)
    taken = found.taken
    for name, entries in sorted(by_name.items()):
        if plain(name) in taken:
            for entry in sorted(entries, key=_source):
                found.refuse(f"{name} ({_source(entry)})", _taken(name, entry), outside=True)
        elif len({entry.value for entry in entries}) > 1:
            found.refuse(name, _twice(name, entries), outside=True)
        elif strange := set(name) & set("+@:="):
            found.refuse(name, _unreadable(strange, min(entries, key=_source)), outside=True)
        else:
            usable[name] = min(entries, key=_source)
    return usable


def _entries(found: Found) -> Iterator[EntryPoint]:
    """The entry points of our group; where one installed package has a list that no parser reads, all others'."""
    try:
        yield from entry_points(group=GROUP)
    except ANYTHING:
        for package in distributions():
            name = f"entry points of {package.metadata['Name']}"
            with found.trying(name, "entry_points.txt of that package", outside=True):
                yield from [entry for entry in package.entry_points if entry.group == GROUP]


def plain(name: str) -> str:
    """A name as the eye compares it: letters that look alike are one, without case and punctuation."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", name).casefold().translate(LOOK_ALIKE))


def _unreadable(strange: set[str], entry: EntryPoint) -> GauntletError:
    return GauntletError(
        f"a method name with {' '.join(sorted(strange))}", expected="a name without + @ : =", where=_source(entry),
        fix="rename the entry point",
    )  # fmt: skip


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
        raise raised("entry point", error, _source(entry)) from error
    if not (isinstance(defence, type) and issubclass(defence, Defence) and hasattr(defence, "card")):
        raise GauntletError(
            f"an entry point that loads {defence!r}", expected="a subclass of vlm_gauntlet.methods.base.Defence",
            where=_source(entry), fix="let it name the class: package.module:Class",
        )  # fmt: skip
    if any(plain(name) in found.taken for name in (defence.card.id, defence.card.name)) and not is_ours(defence):
        raise GauntletError(
            f"an entry point whose card says {defence.card.name!r}, as that of a built-in method does",
            expected="a card of its own", where=_source(entry), fix="give its card another id and another name",
        )  # fmt: skip
    return defence


def _taken(name: str, entry: EntryPoint) -> GauntletError:
    return GauntletError(
        f"an entry point with the name of a built-in method, {name!r}", expected="a name of its own",
        where=f"{_source(entry)}; the built-in is {HERE / name}",
        fix=f"rename the entry point, or use it as --method {entry.value}",
    )  # fmt: skip


def _twice(name: str, entries: set[EntryPoint]) -> GauntletError:
    return GauntletError(
        f"{len(entries)} entry points called {name!r}", expected="one name, one method",
        where=" and ".join(sorted(map(_source, entries))), fix="rename one, or uninstall its package",
    )  # fmt: skip


def _source(entry: EntryPoint) -> str:
    package = f" of {entry.dist.metadata['Name']}" if entry.dist is not None else ""
    return f"entry point {entry.value}{package}"
