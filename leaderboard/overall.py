"""One line a method and backbone: its mean over the data sets of a suite, and whether it may rank."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property

from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.protocols import ThreatModel
from vlm_gauntlet.suites.tiers import tier

from .means import mean_over
from .rank_groups import Key, Left, RankRange, open_places, rank_ranges, row_key
from .rows import MODALITIES, Row, headline
from .statistics import Estimate

Group = tuple[str, str, Fraction, str, str]  # backbone, norm, eps, modality, resolution
EMBEDDED_SUITE = "fast"  # the tier whose data sets lie in the repository
HERE = "here"  # the suite of what was run, where it is no list that papers average over
# What a mean is worth: as little as the worst of its parts.
WORST_FIRST = ("unknown here", "not comparable", "masked", "no attack", "transfer only", "upper bound", "valid")


@dataclass(frozen=True)
class Suite:
    """Data sets over which is averaged; `name` is the list's, as papers use it, or `here`."""

    name: str
    datasets: tuple[str, ...]

    @property
    def words(self) -> str:
        """`mean of 16 data sets (ttc-16)`; a single one by its name."""
        if len(self.datasets) == 1:
            return self.datasets[0]
        return f"mean of {len(self.datasets)} data sets" + ("" if self.name == HERE else f" ({self.name})")


@dataclass(frozen=True)
class Overall:
    """One line of the leaderboard.

    Args:
        suite: what it averages over.
        rows: its rows, by data set; of data sets outside the suite as well.
        place: its open ranks, where it may rank.
    """

    suite: Suite
    rows: Mapping[str, Row]
    place: RankRange | None = None

    @property
    def first(self) -> Row:
        """Any of its rows: they share method, backbone, threat model and seed."""
        return next(iter(self.rows.values()))

    @property
    def parts(self) -> list[Row]:
        """Its rows on the data sets of the suite."""
        return [self.rows[name] for name in self.suite.datasets if name in self.rows]

    @property
    def missing(self) -> list[str]:
        """Data sets of the suite on which it was not run: then there is no mean."""
        return [name for name in self.suite.datasets if name not in self.rows]

    @property
    def absent(self) -> int:
        """How many of them are missing."""
        return len(self.missing)

    @cached_property
    def state(self) -> str:
        """That of the part that is worth least, or `incomplete`."""
        return "incomplete" if self.absent else min((r.state for r in self.parts), key=WORST_FIRST.index)

    @property
    def state_words(self) -> str:
        """The state, and of how many data sets it speaks where not of all."""
        if self.absent:
            return f"{len(self.parts)} of {len(self.suite.datasets)} data sets"
        count = Counter(row.state for row in self.parts)[self.state]  # type: ignore[index]
        return f"on {count} of {len(self.parts)} data sets" if count < len(self.parts) else ""

    @cached_property
    def clean(self) -> Estimate | None:
        """Without attack."""
        return _mean([row.clean for row in self.parts], self.absent)

    @cached_property
    def worst(self) -> Estimate | None:
        """Under the worst case; None where a part has none. It counts only where the state is `valid`."""
        return _mean([row.worst.accuracy if row.worst else None for row in self.parts], self.absent)

    @cached_property
    def t0(self) -> Estimate | None:
        """As papers report it."""
        return _mean([row.under("T0") for row in self.parts], self.absent)

    @property
    def passes(self) -> float:
        """Image-encoder passes for one prediction."""
        return self.first.passes

    @property
    def n(self) -> int:
        """Samples of all data sets of the suite together."""
        return sum(row.clean.n for row in self.parts)

    def over(self, suite: Suite) -> "Overall":
        """The same line, averaged over another suite; it has no rank there."""
        return Overall(suite, self.rows)

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key: what ranks by its worst case, then what has a bound, then the rest."""
        value = self.worst.value if self.worst else -1.0
        clean = self.clean.value if self.clean else -1.0
        return (self.state != "valid", self.state != "upper bound", -value, -clean, self.first.method, self.first.seed)


@dataclass(frozen=True)
class Board:
    """The lines that may be compared: of one backbone and threat model.

    Args:
        suite: the one that is averaged; `others` are lists of papers that were run as well.
        datasets: all that any line has.
    """

    group: Group
    threat: ThreatModel
    suite: Suite
    others: tuple[Suite, ...]
    datasets: tuple[str, ...]
    lines: tuple[Overall, ...]

    @property
    def backbone(self) -> str:
        """Of all its lines."""
        return self.group[0]


def boards(found: Sequence[Row], left: Mapping[Key, Left], ranks: Mapping[Key, RankRange] | None = None) -> list[Board]:
    """All boards, by backbone and threat model.

    Args:
        found: rows, controls among them.
        left: `all_remaining` of these.
        ranks: `rank_ranges` of these, where they are known already.
    """
    ranks = rank_ranges(found, left) if ranks is None else ranks
    groups: dict[Group, dict[tuple[str, int], dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for block in headline(found).values():
        for row in block:
            backbone, dataset, *threat = row.block
            groups[(backbone, *threat)][row.method, row.seed][dataset] = row  # type: ignore[index]
    made = []
    for group, lines in groups.items():
        suite, others = suites([tuple(rows) for rows in lines.values()])
        placed = _ranked([Overall(suite, rows) for rows in lines.values()], left, ranks)
        datasets = tuple(sorted({name for rows in lines.values() for name in rows}))
        made.append(Board(group, placed[0].first.threat, suite, others, datasets, tuple(placed)))
    return sorted(made, key=lambda b: (b.backbone, MODALITIES.index(b.group[3]), b.group[1], b.group[2], b.group[4]))


@cache
def named_suites() -> tuple[Suite, ...]:
    """Lists over which papers average (`fixtures/data/known_datasets.toml`), and that of the fast tier, by name."""
    lists = {**known_datasets().list, EMBEDDED_SUITE: tier(EMBEDDED_SUITE).datasets}
    return tuple(Suite(name, tuple(sorted(members))) for name, members in sorted(lists.items()))


def averaged_over(
    found: Sequence[Board], suite: Suite, left: Mapping[Key, Left], ranks: Mapping[Key, RankRange]
) -> list[Board]:
    """Boards of another suite: the same lines, each in its place by that mean.

    Args:
        found, left, ranks: `boards`, and what they were made of.
        suite: lines that have none of its data sets are left out, and so are boards without a line.
    """
    made = []
    for board in found:
        lines = [line.over(suite) for line in board.lines if line.over(suite).parts]
        if lines:
            made.append(replace(board, suite=suite, others=(), lines=tuple(_ranked(lines, left, ranks))))
    return made


def suites(covered: Iterable[Sequence[str]]) -> tuple[Suite, tuple[Suite, ...]]:
    """The data sets to average over, and the lists of papers that at least one line has as a whole.

    Of what some line has, and of the lists, the one with most (line, data set) pairs among lines that have all of it.

    Args:
        covered: the data sets of each line.
    """
    have = [frozenset(names) for names in covered]
    lists = {frozenset(suite.datasets): suite.name for suite in named_suites()}
    whole = {members: name for members, name in lists.items() if any(members <= names for names in have)}
    chosen = max(
        {*have, *whole, *({frozenset.intersection(*have)} - {frozenset[str]()})},
        key=lambda s: (len(s) * sum(s <= names for names in have), len(s), sorted(s)),
    )
    others = [Suite(name, tuple(sorted(s))) for s, name in whole.items() if s != chosen]
    return Suite(whole.get(chosen, HERE), tuple(sorted(chosen))), tuple(sorted(others, key=lambda s: s.name))


def _ranked(lines: Sequence[Overall], left: Mapping[Key, Left], ranks: Mapping[Key, RankRange]) -> list[Overall]:
    """The lines in their order, with the ranks that are open to those that may rank."""
    ordered = sorted(lines, key=lambda line: line.order)
    may = [line for line in ordered if line.state == "valid"]
    if len(ordered[0].suite.datasets) == 1:  # the table of that data set, with its exact test
        places = [ranks[row_key(line.parts[0])] for line in may]
    else:
        places = open_places([[left[row_key(row)] for row in line.parts] for line in may])
    ranked = [Overall(line.suite, line.rows, place) for line, place in zip(may, places, strict=True)]
    return [*ranked, *ordered[len(may) :]]


def _mean(parts: Sequence[Estimate | None], absent: int) -> Estimate | None:
    known = [part for part in parts if part is not None]
    return mean_over(known) if known and len(known) == len(parts) and not absent else None
