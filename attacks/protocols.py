"""Reads protocol files: `data/protocols/*.toml`, and files outside the repository by their path.

One file is a family. `eps` and `knowledge` at its top are lists, one protocol for each pair; `base` names the file that
it inherits from, field by field. Its tables are `[threat]`, `[attack]` and `[evaluation]`.
"""

from functools import cache
from pathlib import Path

from vlm_gauntlet import fixtures
from vlm_gauntlet.fixtures.errors import GauntletError, reading, unknown_name
from vlm_gauntlet.fixtures.inheritance import inherited
from vlm_gauntlet.fixtures.parts import Parts, read_all
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol

from .registry import build, choice

FOLDER = Path(next(iter(fixtures.__path__))) / "data" / "protocols"
FIELDS = ("title", "eps", "knowledge", "base", "threat", "attack", "evaluation")
MADE_ON = {
    "transfer": ", made on the undefended backbone",
    "white-box": ", made on the defence as it is written",
    "adaptive": ", made by who knows the defence",
}


def read_protocols(path: Path) -> list[Protocol]:
    """The protocols of one file: `<stem>[-<knowledge>][-<norm>-<eps>]`, each of which can be built.

    Raises:
        GauntletError: it does not validate, or asks for what its attack cannot do.
    """
    with reading(
        "protocol file",
        path,
        expected="title, eps, knowledge, and the tables threat, attack, evaluation",
        fix=f"compare with a file in {FOLDER}",
    ):
        record = inherited(path, FOLDER)
        threat, evaluation = record.pop("threat", {}), record.pop("evaluation", {})
        parameters = dict(record.pop("attack", {}))
        budgets, levels, title = record.pop("eps", ["0"]), record.pop("knowledge"), record.pop("title")
        if record:
            raise unknown_name("field", next(iter(record)), FIELDS, str(path))
        chosen = choice(parameters.pop("name", NO_ATTACK), parameters, where=str(path), beside=path.parent)
        made = [
            Protocol.model_validate({
                "id": path.stem + suffix(threat["norm"], eps, knowledge),
                "title": title + (MADE_ON.get(knowledge, "") if len(levels) > 1 else ""),
                "threat": {**threat, "eps": eps, "knowledge": knowledge},
                "attack": chosen, "evaluation": evaluation,
            })
            for knowledge in levels
            for eps in budgets
        ]  # fmt: skip
    for protocol in made:
        build(protocol)
    return made


def suffix(norm: str, eps: str, knowledge: str) -> str:
    """What tells the protocols of a family apart."""
    budget = "" if norm == "none" else f"-{norm}-{eps.replace('/', '-')}"
    return ("" if knowledge == "none" else f"-{knowledge}") + budget


@cache
def parts() -> Parts[list[Protocol]]:
    """The protocol files of the house by stem, the broken ones with what is wrong."""
    return read_all("protocol file", sorted(FOLDER.glob("*.toml")), read_protocols, lambda path: path.stem)


@cache
def protocols() -> dict[str, Protocol]:
    """All usable protocols of the house by id, sorted; of two files with one id the later one is left out whole."""
    found: dict[str, Protocol] = {}
    for stem, made in list(parts().usable.items()):
        if clash := next((p.id for p in made if p.id in found), None):
            parts().refuse(stem, GauntletError(
                f"two protocols called {clash!r}", expected="one id, one protocol",
                where=str(FOLDER / f"{stem}.toml"), fix="rename one file",
            ))  # fmt: skip
        else:
            found |= {p.id: p for p in made}
    return dict(sorted(found.items()))


def protocol(name: str) -> Protocol:
    """The protocol with this id.

    Raises:
        GauntletError: nobody knows it, with near misses; or its file cannot be used, and why.
    """
    if name in protocols():
        return protocols()[name]
    if stem := lost(name):
        raise parts().unusable[stem]
    raise unknown_name("protocol", name, protocols(), "--protocol")


def lost(name: str) -> str:
    """The stem of the unusable file that would have a protocol of this name, or empty."""
    stems = [stem for stem in parts().unusable if name == stem or name.startswith(f"{stem}-")]
    return max(stems, key=len, default="")


def varied(given: Protocol, **parameters: object) -> Protocol:
    """The same protocol with other parameters of its attack."""
    asked = {**given.attack.parameters, **parameters}
    chosen = choice(given.attack.name, asked, where=f"protocol {given.id}")
    return given.model_copy(update={"attack": chosen})
