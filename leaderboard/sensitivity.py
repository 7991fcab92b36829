"""Sensitivity: what can be said of a claim whose source leaves a field open, from every listed way to read it.

Such a word is no verdict on the claim: it stands apart from the plain words wherever these are counted, and is never
green. It says whether the open field matters.
"""

from collections.abc import Mapping
from typing import Literal

EVERY: Literal["reproduced under every reading"] = "reproduced under every reading"
NONE: Literal["not reproduced under any reading"] = "not reproduced under any reading"
DEPENDS: Literal["depends on the reading"] = "depends on the reading"
OPEN: Literal["readings open"] = "readings open"
Word = Literal[
    "reproduced under every reading", "not reproduced under any reading", "depends on the reading", "readings open"
]
WORDS: tuple[Word, ...] = (EVERY, NONE, DEPENDS, OPEN)
SILENT = 1  # readings without an answer that are named: there can be dozens, each of a line
YES, NO = ("reproduced",), ("below claim", "above claim")


def sensitivity(words: Mapping[str, str]) -> tuple[Word, str]:
    """The word for a claim, and why.

    One reading that gives the number and one that does not are enough for `depends on the reading`; the two strong
    words want an answer from each reading.

    Args:
        words: reading, as `field=value+field=value` -> the plain verdict of the claim under it; at least one.
    """
    given = sorted(r for r, word in words.items() if word in YES)
    missed = sorted(r for r, word in words.items() if word in NO)
    silent = sorted(r for r, word in words.items() if word not in (*YES, *NO))
    named = (*given, *missed, *silent[:SILENT])
    told = "; ".join(f"{words[r]} with {_in_words(r)}" for r in named)
    told += f"; and {len(silent) - SILENT} more without an answer." if len(silent) > SILENT else "."
    if given and missed:
        return DEPENDS, f"It depends on {' and '.join(_deciding(given, missed))}, which the source leaves open: {told}"
    if silent:
        return OPEN, f"{len(words) - len(silent)} of {len(words)} readings have an answer: {told}"
    if given:
        return EVERY, f"What the source leaves open does not matter: {told}"
    return NONE, f"Whatever the source leaves open: {told}"


def _deciding(given: list[str], missed: list[str]) -> list[str]:
    """Fields in which those readings differ that are nearest and have different answers."""
    apart = [{name for name, _ in {*_pairs(a)} ^ {*_pairs(b)}} for a in given for b in missed]
    fewest = min(map(len, apart))
    return sorted({name for names in apart if len(names) == fewest for name in names})


def _pairs(reading: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition("=") for part in reading.split("+"))]


def _in_words(reading: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in _pairs(reading))
