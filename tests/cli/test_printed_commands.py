"""Every `gauntlet` command that a page, a document or a help text prints is one: its options and names exist."""

import html
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.leaderboard.factory import outcome
from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.attacks.registry import attacks
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.fixtures.reported import reported_protocol, reported_protocols
from vlm_gauntlet.leaderboard.formatting import command
from vlm_gauntlet.leaderboard.verdicts import verdicts
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.tiers import tier

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md"))))
TEMPLATES = sorted((ROOT / "leaderboard" / "templates").glob("*.j2"))
PLACEHOLDER = re.compile(r"[A-Z_]{2,}|.*[:<{$*].*|.*\.(py|toml|json)(:.*)?|mine")
END = {"|", "&&", "||", ";", ">", ">>", "#"}


def commands_in(text: str) -> Iterator[list[str]]:
    """Words of each command in a text: a line of its own, or one between backticks or in a `code` element."""
    inline = r"`(?:[A-Z_]+=\S+ )?(gauntlet [^`]+)`|<code>(gauntlet [^<]+)</code>"
    spans = re.findall(rf"{inline}|^[^\w`]*((?:[A-Z_]+=\S+ )*gauntlet .+)$", text, re.M)
    for found in spans:
        for part in re.split(r"\s(?=gauntlet )", html.unescape(next(filter(None, found)))):
            words = shlex.split(re.sub(r"{{.*?}}", "NAME", part.replace("\\\n", " ")), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            stop = next((i for i, word in enumerate(words) if word in END or word.startswith("|")), len(words))
            if words[:1] == ["gauntlet"] and len(words) > 1:
                yield words[:stop]


@cache
def root() -> Any:
    return typer.main.get_command(app)


def problem(words: list[str]) -> str:
    """What is wrong with a command; empty where nothing is."""
    asked, rest = root(), words[1:]
    context = asked.make_context("gauntlet", ["doctor"])
    while hasattr(asked, "commands"):
        if not rest or rest[0].startswith("-"):
            return ""
        if rest[0].rstrip(".,:") not in asked.commands:
            return "" if "|" in rest[0] or not rest[0].islower() else f"no command {rest[0]!r}"
        asked, rest = asked.commands[rest[0].rstrip(".,:")], rest[1:]
    try:
        parser = asked.make_parser(context)
        values, _, _ = parser.parse_args([*rest])
    except Exception as error:
        return str(getattr(error, "message", error)) if "requires an argument" not in str(error) else ""
    known = {name for option in asked.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    if unknown := [w for w in rest if w.startswith("--") and w.partition("=")[0] not in known]:
        return f"no option {unknown[0]}"
    found = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    for kind, look in LOOKS.items():
        for value in found.get(kind, []):
            if isinstance(value, str) and not PLACEHOLDER.fullmatch(value):
                try:
                    look(value)
                except Exception as error:
                    return f"{kind} {value!r}: {type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


@cache
def _method(name: str) -> object:
    found = method(name)
    known = {"as_coded", "released", *(deviation.name for deviation in found.card.deviations)}
    for switch in name.partition("@")[0].split("+")[1:]:
        if switch.partition("=")[0] not in known:
            raise KeyError(switch)
    return found


@cache
def _protocol(name: str) -> object:
    return reported_protocol(name) if name.partition("+")[0] in reported_protocols() else protocol(name)


def _dataset(name: str) -> None:
    known = {*datasets(), *natural_sets(), *known_datasets().names, "coco_captions"}
    if name not in known:
        raise KeyError(name)


LOOKS: dict[str, Callable[[str], object]] = {
    "method": _method, "first": _method, "second": _method, "protocol": _protocol, "tier": tier, "dataset": _dataset,
    "attack": lambda name: attacks()[name],
}  # fmt: skip


def helps(asked: Any = None, name: str = "gauntlet") -> Iterator[tuple[str, str]]:
    asked = asked or root()
    yield name, asked.help or ""
    for sub, inner in getattr(asked, "commands", {}).items():
        yield from helps(inner, f"{name} {sub}")


PRINTED = [(name, (ROOT / name).read_text()) for name in DOCUMENTS if (ROOT / name).is_file()]
PRINTED += [(path.name, path.read_text()) for path in TEMPLATES]
PRINTED += [*helps()]


@pytest.mark.parametrize(("place", "text"), PRINTED, ids=[name for name, _ in PRINTED])
def test_what_is_printed_is_a_command(place: str, text: str) -> None:
    wrong = {shlex.join(words): said for words in commands_in(text) if (said := problem(words))}
    assert wrong == {}, place


def test_commands_were_found_everywhere() -> None:
    count = {name: len([*commands_in(text)]) for name, text in PRINTED}
    assert count["README.md"] > 30 and count["gauntlet"] > 15 and count["submit.html.j2"] >= 8


def test_commands_of_outcomes_and_verdicts_are_commands() -> None:
    told = {v.command for v in verdicts(claims(), []).values() if v.command}
    told |= {
        command(outcome("1", method=name, dataset="digits")) for name in ("ttc", "ttc@tecoa", "clipure_cos+as_coded")
    }
    assert len(told) > 20
    wrong = {line: said for line in sorted(told) if (said := problem(shlex.split(line)))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [("gauntlet rnu --tier fast", "no command"), ("gauntlet run --teir fast", "--teir"),
     ("gauntlet run --method ttcc", "ttcc"), ("gauntlet run --tier fats", "fats"),
     ("gauntlet retrieval --attack sgaa", "sgaa"), ("gauntlet check ttc --mesure", "--mesure"),
     ("gauntlet run --dataset digts", "digts"), ("gauntlet run --method ttc --protocol pgd-1", "pgd-1"),
     ("gauntlet compare ttc tekoa", "tekoa"), ("gauntlet run --method ttc+gate_of=zero", "gate_of")],
)  # fmt: skip
def test_what_is_no_command_is_noticed(line: str, said: str) -> None:
    (words,) = commands_in(f"    {line}   # why")
    assert said in problem(words)
