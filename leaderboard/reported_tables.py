"""Claims of one kind by the tables that they stand in, with how many have each verdict."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vlm_gauntlet.methods.claims import Claim

from .paper_pages import paths
from .sensitivity import OPEN
from .verdicts import WORDS, Verdict

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class ReportedTable:
    """Some claims of one table of one source.

    Args:
        page: of the table, from the front page's folder.
        methods: that they speak of, sorted.
        words: how many have each verdict, in the order of WORDS.
    """

    source: str
    table: str
    page: str
    claims: int
    methods: tuple[str, ...]
    words: tuple[tuple[str, int], ...]


def by(found: Iterable[Claim], key: Callable[[Claim], Key]) -> dict[Key, list[Claim]]:
    """Claims by what a function says of them."""
    groups: dict[Key, list[Claim]] = defaultdict(list)
    for claim in found:
        groups[key(claim)].append(claim)
    return dict(groups)


def tables(found: Sequence[Claim], judged: Mapping[str, Verdict]) -> list[ReportedTable]:
    """The tables of these claims; first those of which most was tested, then by name.

    Args:
        found: any claims.
        judged: verdict of each.
    """
    made = []
    for (source, table), theirs in by(found, lambda claim: (claim.source, claim.table)).items():
        counts = Counter(judged[claim.id].word for claim in theirs)
        words = tuple((word, counts[word]) for word in WORDS if counts[word])
        methods = tuple(sorted({claim.method for claim in theirs}))
        made.append(ReportedTable(source, table, paths()[source, table], len(theirs), methods, words))
    return sorted(made, key=lambda one: (-_tested(one), one.source, one.table))


def _tested(one: ReportedTable) -> int:
    return sum(n for word, n in one.words if word not in ("not run", "not checkable", OPEN))
