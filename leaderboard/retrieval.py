"""From retrieval outcomes to rows: a row is a method under an attack; a table is a backbone, a data set and an eps."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.suites.recall import KS, Ranks
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome, word_swap

from .rows import card_of
from .statistics import Estimate, wilson

Place = tuple[str, str, Fraction]


@dataclass(frozen=True)
class Recall:
    """R@k of one direction, with Wilson intervals over the queries.

    Args:
        drop: clean minus attacked, in [-1, 1]; Co-Attack's success rate. No interval: the two are not independent.
        lost: of the queries right before, the share wrong after; SGA's success rate, None where none was right.
    """

    k: int
    clean: Estimate
    attacked: Estimate
    drop: float
    lost: Estimate | None


@dataclass(frozen=True)
class Direction:
    """One direction of a row: `queries` are of this kind, and there are n of them."""

    name: str
    queries: str
    n: int
    recalls: tuple[Recall, ...]


@dataclass(frozen=True)
class RetrievalRow:
    """One line of a table. `left_out`: older outcomes of the same setting, other code, data or fewer images."""

    outcome: RetrievalOutcome
    left_out: int

    @property
    def place(self) -> Place:
        """The table that the row belongs to."""
        cell = self.outcome.cell
        return (cell.backbone, cell.dataset, cell.eps)

    @property
    def card(self) -> Card | None:
        """The method's card, if the method is registered here."""
        return card_of(self.outcome.cell.method)

    @property
    def label(self) -> str:
        """The method, with its seed where that is not 0."""
        cell = self.outcome.cell
        return f"{cell.method} (seed {cell.seed})" if cell.seed else cell.method

    @property
    def words(self) -> str:
        """How captions are attacked: where words come from, and how many may change."""
        text = self.outcome.cell.text
        return f"{text.source}, {text.budget} word{'' if text.budget == 1 else 's'}"

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Image to text, then text to image."""
        both = self.outcome.image_to_text, self.outcome.text_to_image
        names = ("image to text", "images"), ("text to image", "captions")
        return tuple(
            Direction(name, queries, ranks.n, tuple(_recall(ranks, k) for k in KS))
            for (name, queries), ranks in zip(names, both, strict=True)
        )

    @property
    def command(self) -> str:
        """The command that runs this evaluation again."""
        cell = self.outcome.cell
        options = {"method": cell.method, "backbone": cell.backbone, "dataset": cell.dataset, "attack": cell.attack,
                   "eps": str(cell.eps), "words": str(cell.text.budget), "source": cell.text.source,
                   "limit": str(cell.limit), "seed": str(cell.seed)}  # fmt: skip
        return shlex.join(
            ["gauntlet", "retrieval", *(part for name, value in options.items() for part in (f"--{name}", value))]
        )

    @property
    def without_option(self) -> tuple[str, ...]:
        """Switches of the attack on text that the command has no option for, as `name = value`."""
        text = self.outcome.cell.text
        usual = word_swap(text.source, text.budget)
        return tuple(f"{name} = {value}" for name, value in text if value != getattr(usual, name))


def _recall(ranks: Ranks, k: int) -> Recall:
    before, after, lost = ranks.clean_recall(k), ranks.attacked_recall(k), ranks.lost(k)
    right = round(before * ranks.n)
    return Recall(
        k=k, clean=wilson(right, ranks.n), attacked=wilson(round(after * ranks.n), ranks.n), drop=ranks.drop(k),
        lost=None if lost is None else wilson(round(lost * right), right),
    )  # fmt: skip


def _version(outcome: RetrievalOutcome) -> tuple[str, ...]:
    cell = outcome.cell
    return (
        cell.method_digest, cell.backbone_digest, cell.dataset_digest, cell.text_source_digest, cell.code_digest
    )  # fmt: skip


def retrieval_tables(outcomes: Sequence[RetrievalOutcome]) -> dict[Place, list[RetrievalRow]]:
    """Rows by table: the newest version of each setting with its largest limit; undefended first, then by name."""
    groups: dict[tuple[object, ...], list[RetrievalOutcome]] = defaultdict(list)
    for o in outcomes:
        cell = o.cell
        groups[cell.method, cell.backbone, cell.dataset, cell.attack, cell.eps, cell.text, cell.seed].append(o)
    made = []
    for group in groups.values():
        latest = _version(max(group, key=lambda o: (o.provenance.made, o.key)))
        chosen = max((o for o in group if _version(o) == latest), key=lambda o: o.cell.limit)
        made.append(RetrievalRow(chosen, len(group) - 1))
    tables: dict[Place, list[RetrievalRow]] = defaultdict(list)
    for row in sorted(made, key=_order):
        tables[row.place].append(row)
    return dict(tables)


def _order(row: RetrievalRow) -> tuple[object, ...]:
    cell = row.outcome.cell
    return (*row.place, cell.method != "undefended", cell.method, cell.attack, row.words, cell.seed, cell.key)
