"""Looks for defences in the folders of this package and among entry points; a broken one is kept with its error."""

import importlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
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


def discover() -> Parts[type[Defence]]:
    """Every defence by id: folders first, then entry points, which never take a folder's name."""
    found = Parts[type[Defence]]("method")
    for folder in sorted(p for p in HERE.iterdir() if is_there(p / "card.toml") or is_there(p / "method.py")):
        with found.trying(folder.name, str(folder)):
            found.usable[folder.name] = _of_folder(folder)
    _add_entry_points(found)
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


def _add_entry_points(found: Parts[type[Defence]]) -> None:
    by_name: dict[str, set[EntryPoint]] = defaultdict(set)
    for entry in _entries(found):
        by_name[entry.name].add(entry)
    taken = {plain(name) for name in (*found.usable, *found.unusable, *(d.card.name for d in found.usable.values()))}
    for name, entries in sorted(by_name.items()):
        if plain(name) in taken:
            for entry in sorted(entries, key=_source):
                found.refuse(f"{name} ({_source(entry)})", _taken(name, entry), outside=True)
        elif len({entry.value for entry in entries}) > 1:
            found.refuse(name, _twice(name, entries), outside=True)
        else:
            entry = min(entries, key=_source)
            with found.trying(name, _source(entry), outside=True):
                found.usable[name] = _loaded(entry, taken)


def _entries(found: Parts[type[Defence]]) -> Iterator[EntryPoint]:
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


def _loaded(entry: EntryPoint, taken: set[str]) -> type[Defence]:
    if strange := set(entry.name) & set("+@:="):
        raise GauntletError(
            f"a method name with {' '.join(sorted(strange))}", expected="a name without + @ : =", where=_source(entry),
            fix="rename the entry point",
        )  # fmt: skip
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
    if any(plain(name) in taken for name in (defence.card.id, defence.card.name)) and not is_ours(defence):
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
