"""What there is of defences without running their code: cards by folder, and names of entry points. It loads no torch.

Of an entry point only the name is read here: its code is somebody else's, and runs where a method is asked for by name.
"""

import ast
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import ANYTHING, Parts, is_there
from vlm_gauntlet.training.pins import read_pins

from .card import Card, read_card

HERE = Path(__file__).parent
GROUP = "vlm_gauntlet.methods"
# Cyrillic and Greek letters that are drawn like Latin ones, and digits that are.
LOOK_ALIKE = str.maketrans("аеорсухіѕԁոαοερτν01", "aeopcyxisdnaoeptvol")


@dataclass
class Listed(Parts[Card]):
    """The cards of the folders, and beside them the entry points, which never take a folder's name."""

    entries: dict[str, EntryPoint] = field(default_factory=dict)


@cache
def parts() -> Listed:
    """Cards of the folders whose card, pins and code can be read; what only running the code shows is not seen."""
    found = Listed("method")
    for folder in folders():
        with found.trying(folder.name, str(folder)):
            found.usable[folder.name] = read_folder(folder)
            _read_code(folder / "method.py")
    found.entries = installed(found, taken(found, (card.name for card in found.usable.values())))
    return found


def folders() -> list[Path]:
    """The folders of this room that hold a method, or half of one."""
    return sorted(p for p in HERE.iterdir() if is_there(p / "card.toml") or is_there(p / "method.py"))


def read_folder(folder: Path) -> Card:
    """The card of a method's folder, after its pins were read, and code was seen beside it.

    Raises:
        GauntletError: a file does not validate, or there is no method.py.
    """
    card = read_card(folder)
    read_pins(folder)
    if not is_there(folder / "method.py"):
        raise GauntletError(
            "a card without a method.py", expected="card.toml and method.py side by side", where=str(folder),
            fix="write method.py; a method that is only claimed needs no card",
        )  # fmt: skip
    return card


def _read_code(path: Path) -> None:
    tree = ast.parse(path.read_bytes(), str(path))
    if not any(isinstance(node, ast.ClassDef) and node.bases for node in tree.body):
        raise how_many(0, path.parent)


def how_many(count: int, folder: Path) -> GauntletError:
    """The error for a method.py that does not hold one defence."""
    return GauntletError(
        f"{count} defences in method.py", expected="exactly one subclass of Defence", where=str(folder),
        fix="keep helpers private to other modules of the folder",
    )  # fmt: skip


def taken(found: Parts[Any], titles: Iterable[str]) -> set[str]:
    """Names and titles that no entry point may have, as the eye compares them."""
    return {plain(name) for name in (*found.usable, *found.unusable.keys() - found.outside, *titles)}


def installed(found: Parts[Any], refused: set[str]) -> dict[str, EntryPoint]:
    """The entry points that may be used, by name; the others are refused among what was found."""
    usable: dict[str, EntryPoint] = {}
    by_name: dict[str, set[EntryPoint]] = defaultdict(set)
    for entry in _entries(found):
        by_name[entry.name].add(entry)
    for name, entries in sorted(by_name.items()):
        if plain(name) in refused:
            for entry in sorted(entries, key=source_of):
                found.refuse(f"{name} ({source_of(entry)})", _taken(name, entry), outside=True)
        elif len({entry.value for entry in entries}) > 1:
            found.refuse(name, _twice(name, entries), outside=True)
        elif strange := set(name) & set("+@:="):
            found.refuse(name, _unreadable(strange, min(entries, key=source_of)), outside=True)
        else:
            usable[name] = min(entries, key=source_of)
    return usable


def _entries(found: Parts[Any]) -> Iterator[EntryPoint]:
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
        f"a method name with {' '.join(sorted(strange))}", expected="a name without + @ : =", where=source_of(entry),
        fix="rename the entry point",
    )  # fmt: skip


def _taken(name: str, entry: EntryPoint) -> GauntletError:
    return GauntletError(
        f"an entry point with the name of a built-in method, {name!r}", expected="a name of its own",
        where=f"{source_of(entry)}; the built-in is {HERE / name}",
        fix=f"rename the entry point, or use it as --method {entry.value}",
    )  # fmt: skip


def _twice(name: str, entries: set[EntryPoint]) -> GauntletError:
    return GauntletError(
        f"{len(entries)} entry points called {name!r}", expected="one name, one method",
        where=" and ".join(sorted(map(source_of, entries))), fix="rename one, or uninstall its package",
    )  # fmt: skip


def source_of(entry: EntryPoint) -> str:
    """An entry point and its package, in words."""
    package = f" of {entry.dist.metadata['Name']}" if entry.dist is not None else ""
    return f"entry point {entry.value}{package}"
