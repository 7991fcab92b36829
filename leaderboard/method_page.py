"""A method's page: whether its number holds, what an attacker who knows it leaves, what it costs, and the rest."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.methods.claims import Claim, claims

from .claimed import ClaimIndex, is_own
from .comparison import Comparison, paired
from .controls import Control
from .formatting import file_name
from .front_page import EMBEDDED
from .overall import Board, Overall
from .rank_groups import Key, Left, row_key
from .rows import Row, card_of
from .sweeps import Sweep
from .verdicts import WORDS, Verdict

REASONS = 4  # of claims that could not be tested: the most frequent
TESTED = ("below claim", "above claim", "failed", "reproduced", "inconclusive")


@dataclass(frozen=True)
class Switched:
    """What a switch between paper and code changes on one table: both rows, and the difference of their worst cases.

    Args:
        difference: the variant less the default, paired, where both rank.
    """

    default: Row
    variant: Row
    difference: Comparison | None


def switched(rows: Sequence[Row], name: str, left: Mapping[Key, Left]) -> list[Switched]:
    """Every row of another version of a method beside the default's, on the same data and threat model."""
    stem = name.partition("+")[0]
    by_place: dict[tuple[object, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.method.partition("+")[0] == stem and not row.control:
            by_place[row.block, row.seed][row.method] = row
    found = []
    for theirs in by_place.values():
        default = theirs.get(stem)
        for method, row in sorted(theirs.items()):
            if default and method != stem:
                found.append(Switched(default, row, _difference(default, row, left)))
    return found


def _difference(default: Row, variant: Row, left: Mapping[Key, Left]) -> Comparison | None:
    one, other = left.get(row_key(default)), left.get(row_key(variant))
    return paired(other[1].tolist(), one[1].tolist()) if one and other and one[0] == other[0] else None


class MethodPages:
    """What the pages of all methods share."""

    def __init__(
        self,
        pages: Environment,
        shared: Mapping[str, object],
        rows: Sequence[Row],
        boards: Sequence[Board],
        controls: Sequence[Control],
        judged: Mapping[str, Verdict],
        left: Mapping[Key, Left],
        swept: Sequence[Sweep],
    ) -> None:
        self._template = pages.get_template("method.html.j2")
        self._shared, self._judged, self._left, self._rows = shared, judged, left, rows
        self._index = ClaimIndex(claims(), judged)
        self._claims: dict[str, list[Claim]] = defaultdict(list)
        for claim in claims():
            self._claims[claim.method].append(claim)
        self._lines: dict[str, list[tuple[Board, Overall]]] = defaultdict(list)
        for board in boards:
            for line in board.lines:
                self._lines[line.first.method].append((board, line))
        for lines in self._lines.values():  # real CLIP first
            lines.sort(key=lambda pair: pair[0].backbone in EMBEDDED)
        self._controls = controls
        self._curves: dict[str, list[Sweep]] = defaultdict(list)
        for sweep in swept:
            self._curves[sweep.row.method].append(sweep)

    def write(self, name: str, theirs: Sequence[Row], out: Path) -> None:
        """Writes `methods/<name>.html` into a site.

        Args:
            name: of the method, with its deviations.
            theirs: its rows.
            out: the site's folder.
        """
        about = self._claims.get(name.partition("+")[0], [])
        tested = [c for c in about if self._judged[c.id].word in TESTED]
        reasons = Counter(self._judged[c.id].reason for c in about if c not in tested)
        attacked = sorted((r for r in theirs if not r.control), key=lambda r: r.backbone in EMBEDDED)
        text = self._template.render(
            **self._shared, root="../", name=name, card=card_of(name), rows=theirs,
            lines=[(board, line, self._index.claimed(line)) for board, line in self._lines.get(name, ())],
            claims=about, stem=name.partition("+")[0], words=[(w, n) for w in WORDS if (n := self._count(about, w))],
            tested=sorted(((c, self._judged[c.id]) for c in tested), key=lambda pair: TESTED.index(pair[1].word)),
            own=self._own(about), reasons=reasons.most_common(REASONS), more_reasons=max(0, len(reasons) - REASONS),
            curves=self._curves.get(name, []), controls=[c for c in self._controls if c.row.method == name],
            switched=switched(self._rows, name, self._left), attacked=attacked,
        )  # fmt: skip
        (out / "methods" / f"{file_name(name)}.html").write_text(text, encoding="utf-8")

    def _own(self, about: Sequence[Claim]) -> list[tuple[str, str, list[tuple[str, int]]]]:
        """Tables of the method's own paper: (source, table, how many of its numbers have each verdict)."""
        tables: dict[tuple[str, str], list[Claim]] = defaultdict(list)
        for claim in filter(is_own, about):
            tables[claim.source, claim.table].append(claim)
        return [
            (source, table, [(w, n) for w in WORDS if (n := self._count(theirs, w))])
            for (source, table), theirs in tables.items()
        ]

    def _count(self, about: Sequence[Claim], word: str) -> int:
        return sum(self._judged[c.id].word == word for c in about)
