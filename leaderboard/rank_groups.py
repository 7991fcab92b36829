"""Which ranks the samples leave open to a row: from paired comparisons of all rows of a table, never from their order.

Rows are sorted by worst case, but two neighbours of few samples often stand the wrong way round. A rank is therefore a
range: one more than the rows that are better beyond chance, to the number of rows less those that are worse.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .comparison import ALPHA, false_discovery
from .means import compared_over
from .paired import needed_for_power, score_interval, sign_p
from .rows import Block, Row

Key = tuple[Block, str, int]
Population = tuple[str, tuple[str, ...]]  # digest of the data set, sample ids
Fractions = NDArray[np.float64]
Left = tuple[Population, Fractions]


@dataclass(frozen=True)
class RankRange:
    """The ranks that are open to a row among the `of` rows of its table that rank.

    Args:
        best: one more than the rows that are better beyond chance.
        worst: `of`, less the rows that are worse beyond chance. Rows on other samples are neither.
        gap: this row minus the next in the table's order, with the 95 % interval, as fractions; None for the last, and
            where that has other samples.
        needed: samples with which one test at 5 % would find the gap, were it as large as it looks, in 80 % of cases;
            None where there is no gap.
    """

    best: int
    worst: int
    of: int
    gap: tuple[float, float, float] | None = None
    needed: int | None = None

    @property
    def words(self) -> str:
        """`2`, or `1–3`."""
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


def row_key(row: Row) -> Key:
    """What tells a row from the others: its table, its method and its seed."""
    return row.block, row.method, row.seed


def rank_ranges(rows: Sequence[Row], left: Mapping[Key, Left] | None = None) -> dict[Key, RankRange]:
    """The open ranks of each row whose state is `valid`; the others do not rank and are not in the answer.

    Args:
        rows: of any number of tables, each in its order; false discoveries are controlled over each table apart.
        left: `all_remaining` of these rows, where it is known already.
    """
    left = all_remaining(rows) if left is None else left
    blocks: dict[Block, list[Row]] = defaultdict(list)
    for row in rows:
        if row_key(row) in left:
            blocks[row.block].append(row)
    found: dict[Key, RankRange] = {}
    gaps: dict[Key, tuple[float, float, int]] = {}  # gains, losses, n against the next row
    for block in blocks.values():
        seen = [left[row_key(row)] for row in block]
        for row, place in zip(block, open_places([[one] for one in seen]), strict=True):
            found[row_key(row)] = place
        for row, (ours, stands), (theirs, next_stands) in zip(block, seen, seen[1:], strict=False):
            if ours == theirs:
                moves = stands - next_stands
                gaps[row_key(row)] = float(np.maximum(moves, 0).sum()), float(np.maximum(-moves, 0).sum()), len(moves)
    if gaps:
        gains, losses, n = np.array([*gaps.values()]).T
        bounds = np.stack(score_interval(gains, losses, n, ALPHA), axis=1)
        for key, more, less, size, (low, high) in zip(gaps, gains, losses, n, bounds.tolist(), strict=True):
            difference = float((more - less) / size)
            needed = needed_for_power(difference, float((more + less) / size))
            found[key] = replace(found[key], gap=(difference, low, high), needed=needed)
    return found


def open_places(seen: Sequence[Sequence[Left]]) -> list[RankRange]:
    """The open ranks of the rows of one table, in its order.

    Args:
        seen: of each row, what is left on each data set that the table averages over; data sets in the same order.
    """
    size = len(seen)
    groups: dict[tuple[Population, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(seen):
        groups[tuple(population for population, _ in row)].append(place)
    p, sign, same = np.ones((size, size)), np.zeros((size, size)), np.zeros((size, size), dtype=bool)
    for populations, places in groups.items():
        square = np.ix_(places, places)
        sets = [np.stack([seen[i][k][1] for i in places]) for k in range(len(populations))]
        p[square], sign[square] = compared(sets[0]) if len(sets) == 1 else compared_over(sets)
        same[square] = True
    better = beyond_chance(p, sign, same=same)
    return [RankRange(1 + int(better[:, i].sum()), size - int(better[i].sum()), size) for i in range(size)]


def all_remaining(rows: Sequence[Row]) -> dict[Key, Left]:
    """`remaining` of every row that ranks."""
    return {row_key(r): remaining(r) for r in rows if r.state == "valid" and r.worst and not r.control}


def remaining(row: Row) -> Left:
    """Whose samples a row was attacked on, and what is left of each under the worst attack: fractions, by sample id."""
    attacks = [o for o in row.outcomes if o.cell.protocol.threat.knowledge != "none"]
    places = sorted(range(attacks[0].n), key=lambda i: attacks[0].samples[i].id)
    ids = tuple(attacks[0].samples[i].id for i in places)
    left = []
    for outcome in attacks:
        by_id = {s.id: s.robust / outcome.draws for s in outcome.samples}
        left.append([by_id[i] for i in ids])
    return (attacks[0].cell.dataset_digest, ids), np.min(np.array(left), axis=0)


def compared(fractions: Fractions) -> tuple[Fractions, Fractions]:
    """All pairs of rows on the same samples.

    Args:
        fractions: [rows, n], each in [0, 1].

    Returns:
        Two-sided p-values of no difference, and the sign of row i minus row j; both [rows, rows].
    """
    gains = np.array([np.maximum(row - fractions, 0).sum(1) for row in fractions])
    return sign_p(gains, gains.T), np.sign(gains - gains.T)


def beyond_chance(p: Fractions, sign: Fractions, *, same: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Whether row i is better than row j, false discoveries controlled over all pairs that have the same samples.

    Args:
        p, sign: of `compared`, [rows, rows].
        same: whether a pair was compared at all; default all.
    """
    pairs = np.triu(np.ones(p.shape, dtype=bool) if same is None else same, k=1)
    q = np.ones(p.shape)
    q[pairs] = false_discovery(p[pairs].tolist())
    found: NDArray[np.bool_] = (np.minimum(q, q.T) < ALPHA) & (sign > 0)
    return found
