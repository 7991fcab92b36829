"""Cells of one row that print the same number for two data sets: a slip of the pen, or a rare chance."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from vlm_gauntlet.methods.claims import Claim

from .finding import Finding, finding
from .places import Tables, accuracies, grouped, in_table, mean, row_of, tables, where

DIGITS = 4  # 0.84 twice in a row is chance; 87.38 twice is one in ten thousand a pair
ALIKE = 0.05  # two rows of one table whose cells differ by less, in the median, are nearly the same model
APART = 1.0


def duplicates(claims: Sequence[Claim]) -> Iterator[Finding]:
    """Pairs of equal numbers of four digits or more within a row, with the mean that the wrong one spoils."""
    printed = accuracies(claims)
    by_table = tables(printed)
    for row in grouped((c for c in printed if not c.mean_over), lambda c: (in_table(c), c.row)):
        for a, b in combinations(row, 2):
            digits = len(a.value.replace(".", "").lstrip("0"))
            if a.value == b.value and a.dataset != b.dataset and digits >= DIGITS:
                yield _duplicate(a, b, row, by_table)


def _duplicate(a: Claim, b: Claim, row: Sequence[Claim], printed: Tables) -> Finding:
    arithmetic = f"{a.column} {a.value} = {b.column} {b.value}"
    sentence = f"{where(a)} and {b.column} of the same row print the same number."
    for suspect in (b, a):
        twin = _twin(suspect, row, printed)
        if twin is None:
            continue
        arithmetic += f"; the nearly equal row {twin.row} has {twin.value} for {suspect.column}"
        sentence += f" {suspect.column} looks like a copy."
        for total in (c for c in printed[in_table(suspect)] if suspect.dataset in c.mean_over):
            if members := row_of(total, printed):
                mended = mean(members) + (twin.number - suspect.number) / len(members)
                arithmetic += f", with which the mean would be {mended:.2f} and not {total.value}"
                sentence += " It spoils the row's mean."
        break
    return finding("duplicate", "warning", [a, b], arithmetic, sentence)


def _twin(suspect: Claim, row: Sequence[Claim], printed: Tables) -> Claim | None:
    """The suspect's data set in a row of the same table that agrees nearly everywhere else."""
    own = {c.dataset: c.number for c in row if c is not suspect}
    for other in grouped(
        (
            c
            for table in printed.values()
            for c in table
            if (c.source, c.table, c.protocol) == (suspect.source, suspect.table, suspect.protocol)
        ),
        lambda c: (in_table(c), c.row),
    ):
        theirs = {c.dataset: c for c in other}
        gaps = sorted(abs(theirs[d].number - v) for d, v in own.items() if d in theirs)
        here = theirs.get(suspect.dataset)
        if here is None or in_table(here) == in_table(suspect) or len(gaps) < len(own):
            continue
        if gaps[len(gaps) // 2] <= ALIKE and abs(here.number - suspect.number) > APART:
            return here
    return None
