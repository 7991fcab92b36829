"""The night in one sentence: what ran, what holds, what fell since the night before, what is left of T0."""

from collections import Counter
from collections.abc import Mapping, Sequence

from .controls import Control
from .formatting import percent
from .nights import Night, named
from .overall import Board, Overall
from .table import label
from .verdicts import Verdict


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def ran(found: Sequence[Board], outcomes: int) -> str:
    """What ran, and how much of it ranks."""
    lines = [line for board in found for line in board.lines]
    methods = len({line.first.method for line in lines})
    datasets = len({name for board in found for name in board.datasets})
    backbones = len({board.backbone for board in found})
    return (
        f"{_plural(outcomes, 'outcome')} of {_plural(methods, 'method')} on {_plural(backbones, 'backbone')} and "
        f"{_plural(datasets, 'data set')}"
    )


def holds(found: Sequence[Board], judged: Mapping[str, Verdict]) -> str:
    """How many claims came out and how many did not; and how many rows the evidence lets rank."""
    words = Counter(verdict.word for verdict in judged.values())
    tested = sum(words[w] for w in ("reproduced", "below claim", "above claim", "inconclusive", "failed"))
    told = "no claim of a paper could be tested"
    if tested:
        told = f"{words['reproduced']} of {_plural(tested, 'tested claim')} reproduced, {words['below claim']} below"
    lines = [line for board in found for line in board.lines]
    ranked = sum(line.state == "valid" for line in lines)
    return f"{told}; {ranked} of {_plural(len(lines), 'row')} rank"


def left_of_t0(found: Sequence[Board]) -> tuple[str, Overall] | None:
    """Of whom an attacker who knows the defence leaves least, against the transferred attack that papers report."""
    known = [
        (line.t0.value - line.worst.value, line)
        for board in found
        for line in board.lines
        if line.t0 and line.worst and line.state in ("valid", "upper bound")
    ]
    drop, line = max(known, key=lambda pair: (pair[0], pair[1].first.method), default=(0.0, None))
    if line is None or drop <= 0 or not line.t0 or not line.worst:
        return None
    return f"{label(line.first)} keeps {percent(line.worst.value)} of {percent(line.t0.value)}", line


def fell(changed: Night) -> str:
    """Which cell lost most since the night before, of those that moved beyond their intervals; empty where none did."""
    lost = [
        (one.before.value - one.after.value, one)
        for one in changed.changed
        if one.before and one.after and one.after.value < one.before.value
    ]
    if not lost:
        return ""
    _, worst = max(lost, key=lambda pair: (pair[0], pair[1].cell, pair[1].seed))
    assert worst.before and worst.after
    others = f", and {_plural(len(lost) - 1, 'more cell')}" if len(lost) > 1 else ""
    return f"{named(worst)} from {percent(worst.before.value)} to {percent(worst.after.value)}{others}"


def failed(controls: Sequence[Control]) -> str:
    """How the controls came out."""
    wrong = sum(one.passed is False for one in controls)
    return f"{wrong} of {_plural(len(controls), 'control')} failed" if wrong else "all controls pass"
