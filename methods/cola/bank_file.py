"""Class descriptions as files: TOML or JSON, class name -> list of sentences. See descriptions/README.md."""

import json
import tomllib
from functools import cache
from pathlib import Path

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, reading

FOLDER = Path(__file__).parent / "descriptions"
FORMAT = "class name -> list of one sentence or more, as in `cat = ['A cat with whiskers.', ...]`"
Sentences = tuple[str, ...]


@cache
def read_descriptions(path: Path) -> dict[str, Sentences]:
    """Sentences by class name from a `.toml` or `.json` file.

    Raises:
        GauntletError: no such file, not parsed, an empty list, or something that is not a list of sentences.
    """
    with reading("descriptions", path, expected=FORMAT, fix="compare with methods/cola/descriptions/general.toml"):
        text = path.read_text(encoding="utf-8")
        record = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(record, dict):
            raise TypeError(f"a {type(record).__name__} at the top")
        for name, sentences in record.items():
            if not isinstance(sentences, list) or not sentences:
                raise TypeError(f"class {name!r} has {sentences!r}")
            if bad := [s for s in sentences if not isinstance(s, str) or not s.strip()]:
                raise TypeError(f"class {name!r} has {bad[0]!r} among its sentences")
        return {name: tuple(sentences) for name, sentences in record.items()}


def describe(class_names: Sentences, path: Path | None = None, folder: Path = FOLDER) -> tuple[Sentences, ...]:
    """The sentences of each class, from one file.

    Args:
        class_names: the classes, in order.
        path: the file; default: of the folder's files that know all classes the one with the fewest, so that a data
            set's own file goes before a general one.
        folder: where to look.

    Raises:
        GauntletError: a bad file, or two that fit equally well.
        UnavailableError: no file describes all classes.
    """
    paths = [path] if path else sorted(p for p in folder.iterdir() if p.suffix in (".toml", ".json"))
    banks = {p: read_descriptions(p) for p in paths}
    missing = {p: [name for name in class_names if name not in bank] for p, bank in banks.items()}
    fitting = sorted((p for p in paths if not missing[p]), key=lambda p: len(banks[p]))
    if not fitting:
        nearest = min(paths, key=lambda p: len(missing[p]), default=folder)
        lacking = missing.get(nearest, list(class_names))
        raise UnavailableError(
            f"no descriptions of {len(lacking)} of {len(class_names)} classes: {_few(lacking)}",
            expected="one file that describes every class of the data set", where=str(nearest),
            fix=f"write methods/cola/descriptions/<data set>.toml: {FORMAT}",
        )  # fmt: skip
    if len(fitting) > 1 and len(banks[fitting[0]]) == len(banks[fitting[1]]):
        raise GauntletError(
            f"{fitting[0].name} and {fitting[1].name} describe the same classes",
            expected="one file for a set of classes", where=str(folder), fix="merge them, or remove one",
        )  # fmt: skip
    return tuple(banks[fitting[0]][name] for name in class_names)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
