"""Finds attacks: in the modules of this room, by entry point, by `module:Class`, by `file.py:Class`.

An attack is a subclass of `Attack` with an `info` of its own; its fields are the parameters that protocols set.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache, lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vlm_gauntlet import attacks as room
from vlm_gauntlet.fixtures import outside
from vlm_gauntlet.fixtures.errors import GauntletError, problems, told, unknown_name
from vlm_gauntlet.fixtures.parts import Parts
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, AttackChoice, Protocol

from .base import Attack

GROUP = "vlm_gauntlet.attacks"
BUDGET = frozenset({"norm", "eps"})  # fields that the threat model sets
_outside: dict[str, type[Attack]] = {}


@cache
def parts() -> Parts[type[Attack]]:
    """Every attack by name: those of this room, then entry points, which take no name of theirs; and broken ones."""
    found = Parts[type[Attack]]("attack")
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        with found.trying(module.name, module.name):
            for kind in vars(importlib.import_module(module.name)).values():
                if is_attack(kind) and kind.__module__ == module.name:
                    _add(found, kind.info.name, kind, module.name)
    for entry in entry_points(group=GROUP):
        name = entry.name if entry.name not in found.usable else f"{entry.name} ({entry.value})"
        with found.trying(name, entry.value, outside=True):
            kind = entry.load()
            if not is_attack(kind):
                raise _no_attack(entry.value, f"entry point {entry.name}")
            _add(found, entry.name, kind, f"entry point {entry.value}")
    found.usable = dict(sorted(found.usable.items()))
    return found


def _add(found: Parts[type[Attack]], name: str, kind: type[Attack], where: str) -> None:
    if (other := found.usable.get(name)) is not None:
        raise GauntletError(
            f"two attacks called {name!r}", expected="one name, one attack", where=f"{where} and {other.__module__}",
            fix="rename one",
        )  # fmt: skip
    found.usable[name] = kind


def attacks() -> dict[str, type[Attack]]:
    """The usable attacks by name, sorted."""
    return parts().usable


def is_attack(kind: object) -> bool:
    """Whether it is an attack that a protocol can name: it says who it is, and is not a mere base."""
    return isinstance(kind, type) and issubclass(kind, Attack) and "info" in vars(kind)


def attack(name: str, *, where: str = "--attack", beside: Path | None = None) -> type[Attack]:
    """The attack behind a name.

    Args:
        name: as registered, or `package.module:Class`, or `path/to/file.py:Class`.
        where: what gave the name.
        beside: the folder of a protocol file, which a relative path starts from.

    Raises:
        GauntletError: nobody knows it, with near misses; or there is no attack at the address.
    """
    if ":" not in name:
        return parts().get(name, where)
    if name not in _outside or beside is not None:
        kind = outside.load(name, what="attack", where=where, beside=beside)
        if not is_attack(kind):
            raise _no_attack(name, where)
        known = _outside.setdefault(name, kind)  # type: ignore[arg-type]
        if inspect.getfile(known) != inspect.getfile(kind):  # type: ignore[arg-type]
            raise GauntletError(
                f"two attacks called {name!r}", expected="one name, one attack", where=where, fix="rename one file",
            )  # fmt: skip
    return _outside[name]


def _no_attack(name: str, where: str) -> GauntletError:
    return GauntletError(
        f"{name!r} is no attack", expected="a subclass of vlm_gauntlet.attacks.base.Attack with an `info`",
        where=where, fix="derive the class from Attack and give it an AttackInfo",
    )  # fmt: skip


def build(protocol: Protocol) -> Attack | None:
    """The attack that a protocol asks for, its parameters checked; None where it asks for none.

    Raises:
        GauntletError: unknown attack, parameter or value; a norm or modality that it does not have.
    """
    asked, threat, where = protocol.attack, protocol.threat, f"protocol {protocol.id}"
    if asked.name == NO_ATTACK:
        return None
    info = attack(asked.name, where=where).info
    if threat.modality != info.modality:
        raise GauntletError(
            f"{asked.name} with modality {threat.modality!r}", expected=f"modality {info.modality!r}", where=where,
            fix=f"{asked.name} attacks {'image and text' if info.modality == 'both' else info.modality}: say so",
        )  # fmt: skip
    if threat.norm not in info.norms:
        raise unknown_name(f"norm of {asked.name}", threat.norm, info.norms, where)
    made = _made(asked, where, norm=threat.norm, eps=float(threat.eps))
    if info.modality != "image" and getattr(made, "text", None) is None:
        raise GauntletError(
            f"{asked.name} without text", expected="a table [attack.text]", where=where,
            fix='say how prompts are attacked, such as source = "characters"',
        )  # fmt: skip
    return made


def choice(name: str, parameters: Mapping[str, Any], *, where: str, beside: Path | None = None) -> AttackChoice:
    """An attack with parameters, in the one way that records hold it: checked, and without what is its default.

    Raises:
        GauntletError: see `build`.
    """
    try:
        given = AttackChoice.model_validate({**parameters, "name": name})
    except ValidationError as error:
        raise _refused(name, error, where) from error
    if name == NO_ATTACK:
        if given.parameters:
            raise unknown_name("parameter of no attack", next(iter(given.parameters)), [], where)
        return given
    attack(name, where=where, beside=beside)
    made = _made(given, where, norm="linf", eps=0.0)
    kept = TypeAdapter(type(made)).dump_python(made, mode="json", exclude_defaults=True, exclude=set(BUDGET))
    return AttackChoice.model_validate({**kept, "name": name})


def parameters(chosen: AttackChoice) -> dict[str, object]:
    """All parameters of an attack by name, defaults included; of an attack that is not here, those on record."""
    if chosen.name == NO_ATTACK or (chosen.name not in attacks() and chosen.name not in _outside):
        return dict(chosen.parameters)
    return dict(_of_known(chosen))


@lru_cache(maxsize=4096)  # a board asks for those of thousands of outcomes of a few protocols
def _of_known(chosen: AttackChoice) -> dict[str, object]:
    made = _made(chosen, chosen.name, norm="linf", eps=0.0)
    return {name: getattr(made, name) for name in settable(type(made))}


def settable(kind: type[Attack]) -> Iterator[str]:
    """Names of the parameters that a protocol may set."""
    known = kind.__pydantic_fields__  # type: ignore[attr-defined]
    return (f.name for f in fields(kind) if f.name not in BUDGET and not known[f.name].exclude)


def as_reported(kind: type[Attack]) -> dict[str, str]:
    """Names of the parameters by what claims call them; without those that no source states."""
    told = {name: marks(kind, name) for name in settable(kind)}
    return {mark.get("reported", name): name for name, mark in told.items() if "unstated" not in mark}


def default_of(kind: type[Attack], name: str) -> object:
    """What a parameter is where a protocol does not set it."""
    return kind.__pydantic_fields__[name].default  # type: ignore[attr-defined]


def marks(kind: type[Attack], name: str) -> Mapping[str, Any]:
    """What a schema says of a parameter beside its values: `reported` (claims call it so), `unstated`."""
    extra: Mapping[str, Any] = kind.__pydantic_fields__[name].json_schema_extra or {}  # type: ignore[attr-defined]
    return extra


def _made(chosen: AttackChoice, where: str, **budget: object) -> Attack:
    kind = attack(chosen.name, where=where)
    known = list(settable(kind))
    if unknown := [name for name in chosen.parameters if name not in known]:
        raise unknown_name(f"parameter of {chosen.name}", unknown[0], known, where)
    try:
        return kind(**budget, **chosen.parameters)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _refused(chosen.name, error, where) from error


def _refused(name: str, error: ValidationError, where: str) -> GauntletError:
    return GauntletError(
        f"{name}: {told(problems(error))}", expected="parameters that the attack has", where=where,
        fix=f"gauntlet attacks --json lists the parameters of {name}",
    )  # fmt: skip
