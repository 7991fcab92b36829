"""Finds defences: by folder, by entry point, by `module:Class`, by `file.py:Class`. Adding one edits nothing here.

`ttc@tecoa` composes: a test-time defence on the tower of a fine-tuned one.

`method(name)` imports the code of a defence from outside into this process, where it may do anything: commands ask
`suites/described.py` instead, which does it in another one.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from vlm_gauntlet.fixtures import outside
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.snapshot import package_files

from .base import Defence
from .card import Card
from .checkpoint import PREFIX as CHECKPOINT
from .checkpoint import of_file
from .data_files import building, files_digest, importing, remember
from .discovery import Found, discover, loaded
from .listed import HERE, installed, plain
from .state import state_digest


@dataclass(frozen=True)
class Method:
    """A defence class with the deviations that a name chose: `clipure_cos+step=as_coded`.

    Args:
        tuned: the fine-tuned method on whose backbone the defence stands: `tecoa` in `ttc@tecoa`.
    """

    name: str
    defence: type[Defence]
    deviations: dict[str, str] = field(default_factory=dict)
    tuned: "Method | None" = None

    @property
    def card(self) -> Card:
        """The class's card, with what is assumed under the deviations that the name chose.

        Of a composition, with the tuned method's weights and no declared cost or time.
        """
        card = self.defence.card
        card = card.model_copy(update={"assumed": card.assuming(self.deviations)})
        if self.tuned is None:
            return card
        below = self.tuned.card
        undeclared = {"cost": None, "attack_cost": None, "timings": ()}
        return card.model_copy(update={"name": f"{card.name} on {below.name}", "weights": below.weights, **undeclared})

    @property
    def outside(self) -> bool:
        """Whether its code, or that of the method it stands on, is not the house's."""
        own = self.defence.__module__.startswith("vlm_gauntlet.")
        return not own or (self.tuned is not None and self.tuned.outside)

    def offers(self, part: str) -> bool:
        """See Defence."""
        return self.defence.offers(part)

    @property
    def label(self) -> str:
        """The name without the place that an external defence was found at.

        Of a class that is called like a registered method the file or package stays before it: `mine.py:tecoa`; of
        weights in a file it says their digest.
        """
        if self.name.startswith(CHECKPOINT):
            return of_file(self.name)[0]
        place, _, own = _composed(self.name)[0].rpartition(":")
        if place and looks_registered(own.split("+")[0]):
            own = f"{Path(place).name if place.endswith('.py') else place}:{own}"
        return own if self.tuned is None else f"{own}@{self.tuned.label}"

    @property
    def digest(self) -> str:
        """Digest of the name with its deviations, and of the method's card, switches, checkpoints and other data."""
        parts = [self.label, files_digest(self.defence)]
        return sha256("\n".join([*parts, *([self.tuned.digest] if self.tuned else [])]).encode())

    def build(self, backbone: Backbone) -> Defence:
        """Makes the defence on a backbone, or on the backbone that the tuned method made of it."""
        with building(self.defence):
            if self.tuned is not None:
                return self.defence.over(self.tuned.build(backbone).tuned_backbone, backbone, self.deviations)
            return self.defence(backbone, deviations=self.deviations) if self.deviations else self.defence(backbone)

    def built_digest(self, defence: Defence, backbone: Backbone) -> str:
        """The digest, joined with that of what `build` made on the backbone. The code is not in it: a cell names it."""
        return sha256(f"{self.digest}\n{state_digest(defence, backbone)}".encode())


@cache
def parts() -> Found:
    """The defences of this package by id, what is wrong with those that cannot be used, and entry points by name."""
    return discover()


def methods() -> dict[str, type[Defence]]:
    """The usable defences of this package by id."""
    return parts().usable


def from_outside(name: str) -> bool:
    """Whether code behind a method's name, or of what it stands on, is not the house's. Nothing is loaded to tell."""
    if name.startswith(CHECKPOINT):
        return False  # it holds weights and no code
    own, below = _composed(name)
    stem = own.split("+")[0]
    place = stem.rpartition(":")[0]
    foreign = place not in package_files().values() if place else stem in parts().entries
    return foreign or (bool(below) and from_outside(below))


def unusable() -> dict[str, GauntletError]:
    """Why the others cannot be used; `method(name)` raises the same."""
    return parts().unusable


def looks_registered(name: str) -> bool:
    """Whether somebody would take a name for a method's of this project: its id or its title, in any spelling."""
    folders = (folder.name for folder in HERE.iterdir() if folder.is_dir())  # also of those that are only reported
    return plain(name) in parts().taken | {plain(known) for known in (*parts().entries, *folders)}


def without_unusable(names: Sequence[str]) -> tuple[list[str], dict[str, GauntletError]]:
    """Splits the names of a tier: those whose parts can be used, and why the others cannot."""
    broken = {n: unusable()[part] for n in names for part in _parts_of(n) if part in unusable()}
    return [n for n in names if n not in broken], broken


def _parts_of(name: str) -> list[str]:
    """`ttc+gate_off=zero@tecoa` -> `ttc`, `tecoa`."""
    own, below = _composed(name)
    return [own if own.startswith(CHECKPOINT) else own.split("+")[0], *(_parts_of(below) if below else [])]


def method(name: str) -> Method:
    """The method behind a name.

    Args:
        name: `<id>`, `<id>+<deviation>=<choice>...`, `<id>+as_coded` (every deviation as the official code has it),
            `package.module:Class` or `path/to/file.py:Class`; any of them followed by `@<fine-tuned method>`; or
            `checkpoint:path/to/weights`, which is one.

    Raises:
        UnavailableError: there is no such file of weights.
        GauntletError: nobody knows the name, or what has it cannot be used, and why.
    """
    if name.startswith(CHECKPOINT):
        return Method(name, of_file(name)[1])
    own, below = _composed(name)
    stem, *switches = own.split("+")
    defence = _by_path(stem) if ":" in stem else _by_name(stem)
    with reading("method", Path(inspect.getfile(defence)), expected="readable files", fix="restore them"):
        remember(defence)
    return Method(name, defence, _choices(defence.card, switches, name), method(below) if below else None)


def _composed(name: str) -> tuple[str, str]:
    """`ttc@tecoa` -> (`ttc`, `tecoa`); a folder of an external file, or of weights, may hold an @ of its own."""
    if name.startswith(CHECKPOINT):
        return name, ""
    if (place := name.find(f"@{CHECKPOINT}")) > 0:
        return name[:place], name[place + 1 :]
    own, _, below = name.rpartition("@")
    return (own, below) if own and "/" not in below else (name, "")


def _choices(card: Card, switches: list[str], name: str) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for switch in switches:
        key, _, value = switch.partition("=")
        if switch == "as_coded":
            chosen |= {d.name: d.as_coded for d in card.deviations}
        elif not value:
            raise GauntletError(
                f"switch {switch!r} of {name!r}", expected="+as_coded or +<deviation>=<choice>", where="--method",
                fix=f"deviations of {card.id}: {', '.join(d.name for d in card.deviations) or '(none)'}",
            )  # fmt: skip
        else:
            chosen[key] = value
    return chosen


def _by_name(name: str) -> type[Defence]:
    found = parts()
    entry = found.entries.get(name)
    if entry is None and name not in found.usable:
        entry = installed(found, found.taken).get(
            name
        )  # the process that this one was forked from may have had another sys.path
    if entry is None:
        return found.get(name, "--method")
    with importing():
        return loaded(entry, found)


def _by_path(address: str) -> type[Defence]:
    with importing():
        found = outside.load(address, what="defence", where="--method")
    if not (isinstance(found, type) and issubclass(found, Defence)):
        raise GauntletError(
            f"{address!r} is {type(found).__name__}", expected="a subclass of vlm_gauntlet.methods.base.Defence",
            where="--method", fix="derive the class from Defence",
        )  # fmt: skip
    return found
