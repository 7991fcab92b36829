"""Finds defences: by folder, by entry point, by `module:Class`, by `file.py:Class`. Adding one edits nothing here.

`ttc@tecoa` composes: a test-time defence on the tower of a fine-tuned one.
"""

import importlib
import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, unknown_name
from vlm_gauntlet.fixtures.files import sha256

from .base import Defence
from .card import Card
from .data_files import building, files_digest, importing, remember
from .state import state_digest

HERE = Path(__file__).parent
GROUP = "vlm_gauntlet.methods"


@dataclass(frozen=True)
class Method:
    """A defence class with the deviations that a name chose: `clipure_cos+step=as_coded`.

    Args:
        victim: the fine-tuned method on whose tower the defence stands: `tecoa` in `ttc@tecoa`.
    """

    name: str
    defence: type[Defence]
    deviations: dict[str, str] = field(default_factory=dict)
    victim: "Method | None" = None

    @property
    def card(self) -> Card:
        """The class's card; of a composition, with the victim's weights and no declared cost or time."""
        card = self.defence.card
        if self.victim is None:
            return card
        below = self.victim.card
        undeclared = {"cost": None, "attack_cost": None, "timings": ()}
        return card.model_copy(update={"name": f"{card.name} on {below.name}", "weights": below.weights, **undeclared})

    @property
    def label(self) -> str:
        """The name without the place that an external defence was found at."""
        own = _composed(self.name)[0].rpartition(":")[2]
        return own if self.victim is None else f"{own}@{self.victim.label}"

    @property
    def digest(self) -> str:
        """Digest of the name with its deviations, and of the method's card, switches, checkpoints and other data."""
        parts = [self.label, files_digest(self.defence)]
        return sha256("\n".join([*parts, *([self.victim.digest] if self.victim else [])]).encode())

    def build(self, backbone: Backbone) -> Defence:
        """Makes the defence on a backbone, or on the tower that the victim made of it."""
        with building(self.defence):
            if self.victim is not None:
                return self.defence.over(self.victim.build(backbone).tower, backbone, self.deviations)
            return self.defence(backbone, deviations=self.deviations) if self.deviations else self.defence(backbone)

    def built_digest(self, defence: Defence, backbone: Backbone) -> str:
        """The digest, joined with that of what `build` made on the backbone. The code is not in it: a cell names it."""
        return sha256(f"{self.digest}\n{state_digest(defence, backbone)}".encode())


@cache
def methods() -> dict[str, type[Defence]]:
    """Every registered defence by id: the folders of this package, then entry points; a clash names both."""
    found: dict[str, type[Defence]] = {}
    for card in sorted(HERE.glob("*/card.toml")):
        module = importlib.import_module(f"vlm_gauntlet.methods.{card.parent.name}.method")
        found[card.parent.name] = _only_defence(module, str(card.parent))
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        if entry.name in found:
            raise GauntletError(
                f"two methods called {entry.name!r}",
                expected="one name, one method",
                where=f"{inspect.getfile(found[entry.name])} and entry point {entry.value}",
                fix="rename the entry point",
            )
        with importing():
            found[entry.name] = entry.load()
    return found


def method(name: str) -> Method:
    """The method behind a name.

    Args:
        name: `<id>`, `<id>+<deviation>=<choice>...`, `<id>+as_coded` (every deviation as the official code has it),
            `package.module:Class` or `path/to/file.py:Class`; any of them followed by `@<fine-tuned method>`.
    """
    own, below = _composed(name)
    stem, *switches = own.split("+")
    if ":" in stem:
        defence = _by_path(stem)
    elif stem in methods():
        defence = methods()[stem]
    else:
        raise unknown_name("method", stem, methods(), "--method")
    remember(defence)
    return Method(name, defence, _choices(defence.card, switches, name), method(below) if below else None)


def _composed(name: str) -> tuple[str, str]:
    """`ttc@tecoa` -> (`ttc`, `tecoa`); a folder of an external file may hold an @ of its own."""
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


def _by_path(address: str) -> type[Defence]:
    place, _, attribute = address.rpartition(":")
    try:
        with importing():
            module = _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        found = getattr(module, attribute)
    except (ImportError, AttributeError, OSError) as error:
        raise GauntletError(
            f"no defence at {address!r}: {error}",
            expected="package.module:Class or path/to/file.py:Class",
            where="--method",
            fix="check the spelling; a package must be importable from here",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Defence)):
        raise GauntletError(
            f"{address!r} is {type(found).__name__}", expected="a subclass of vlm_gauntlet.methods.base.Defence",
            where="--method", fix="derive the class from Defence",
        )  # fmt: skip
    return found


def _module_of_file(path: Path) -> object:
    name = "vlm_gauntlet_external_" + re.sub(r"\W", "_", str(path.resolve()))
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise FileNotFoundError(path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before execution, as import does: inspect.getfile needs it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _only_defence(module: object, where: str) -> type[Defence]:
    own = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Defence)
           and v.__module__ == module.__name__]  # type: ignore[attr-defined]  # fmt: skip
    if len(own) != 1:
        raise GauntletError(
            f"{len(own)} defences in method.py", expected="exactly one subclass of Defence", where=where,
            fix="keep helpers private to other modules of the folder",
        )  # fmt: skip
    return own[0]
