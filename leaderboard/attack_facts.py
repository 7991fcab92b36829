"""What is known of an attack from its own code: what it does, from where, and what each parameter is."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from inspect import getdoc
from typing import Any, Literal, get_args, get_origin

import docstring_parser
from docstring_parser import DocstringStyle

from vlm_gauntlet.attacks.base import Attack
from vlm_gauntlet.attacks.registry import attacks, default_of, settable

ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})")
TAKES = {bool: "yes or no", int: "whole number", str: "text", float: "number"}


@dataclass(frozen=True)
class Parameter:
    """One parameter that a protocol may set.

    Args:
        default, takes: in words.
        fixed: whether it has one value only.
        says: what the attack's documentation says of it; may be empty.
    """

    name: str
    default: str
    takes: str
    fixed: bool
    says: str


@dataclass(frozen=True)
class AttackFacts:
    """An attack as a page tells it; of one that is not registered here only the name is known.

    Args:
        does: paragraphs of its documentation.
        parameters: in the order in which they are documented, its own first.
    """

    name: str
    known: bool
    title: str = ""
    source: str = ""
    modality: str = ""
    norms: tuple[str, ...] = ()
    does: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A part of a text; with an address where it names a paper."""

    text: str
    url: str = ""


@cache
def attack_facts(name: str) -> AttackFacts:
    """What is known of the attack behind a name. A name from a record imports nothing."""
    kind = attacks().get(name)
    if kind is None:
        return AttackFacts(name, known=False)
    told = docstring_parser.parse(getdoc(kind) or "", style=DocstringStyle.GOOGLE)
    does = tuple(filter(None, (plain(told.short_description), *paragraphs(told.long_description))))
    says = documented(kind)
    order = {key: place for place, key in enumerate(says)}
    parameters = tuple(
        _parameter(kind, key, says.get(key, "")) for key in sorted(settable(kind), key=lambda key: order.get(key, 99))
    )
    return AttackFacts(
        name, True, kind.info.title, kind.info.source, kind.info.modality, kind.info.norms, does, parameters
    )


def documented(kind: type[Attack]) -> dict[str, str]:
    """What the documentation of an attack, and of what it is derived from, says of each parameter."""
    found: dict[str, str] = {}
    for base in kind.__mro__:
        told = docstring_parser.parse(vars(base).get("__doc__") or "", style=DocstringStyle.GOOGLE)
        for one in told.params:
            for name in one.arg_name.split(","):
                found.setdefault(name.strip(), plain(one.description))
    return found


def with_links(source: str) -> list[Piece]:
    """A source in words, its arXiv numbers with their addresses."""
    pieces, at = [], 0
    for number in ARXIV.finditer(source):
        pieces += [Piece(source[at : number.start()]), Piece(number[0], f"https://arxiv.org/abs/{number[1]}")]
        at = number.end()
    return [piece for piece in (*pieces, Piece(source[at:])) if piece.text]


def paragraphs(text: str | None) -> Iterator[str]:
    """The paragraphs of a text, each on one line."""
    yield from (plain(part) for part in (text or "").split("\n\n"))


def plain(text: str | None) -> str:
    """On one line, without the marks of code."""
    return " ".join((text or "").replace("`", "").split())


def _parameter(kind: type[Attack], name: str, says: str) -> Parameter:
    annotation = kind.__pydantic_fields__[name].annotation  # type: ignore[attr-defined]
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    fixed = len(choices) == 1
    takes = ", ".join(map(in_words, choices)) if choices else _takes(annotation)
    return Parameter(name, in_words(default_of(kind, name)), takes, fixed, says)


def _takes(annotation: Any) -> str:
    parts = (annotation, *get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list of exact fractions"
    if Fraction in parts:
        return "exact fraction"
    return next((word for kind, word in TAKES.items() if kind in parts), "table of its own")


def in_words(value: object) -> str:
    """A value of a parameter: `yes`, `1/4`, `1/2, 3/4`; a dash for none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(in_words, value))
    return "–" if value is None or value == "" else str(value)
