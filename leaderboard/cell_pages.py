"""Cells: one page for each method, backbone and data set: who broke which samples, and all that is known of each cell.

A page of its own for each outcome would cost a frame and a file ten thousand times; here each cell has an anchor, and
stands beside the others of its row, without which nobody can tell who broke what.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.fixtures.records import Cell, Outcome
from vlm_gauntlet.methods.claims import Claim, claims

from .broken import broken
from .formatting import file_name
from .nights import Place, made_at, robust
from .rows import Row, card_of
from .statistics import Estimate
from .verdicts import Verdict

PAST = 20  # lines of a history: the newest


@dataclass(frozen=True)
class Past:
    """One outcome of a cell in its history.

    Args:
        made: when.
        left: robust accuracy, and of how many samples.
        code: the first characters of its code's digest.
        key: of the outcome.
        here: whether this board has its file.
    """

    made: datetime
    left: Estimate
    code: str
    key: str
    here: bool


def page_of(cell: Cell | Row) -> str:
    """The page of a cell, or of a row, under the site."""
    return f"cells/{_file(cell.method)}/{_file(cell.backbone)}/{_file(cell.dataset)}.html"


def cell_link(outcome: Outcome) -> str:
    """Where a cell stands: its page and anchor."""
    return f"{page_of(outcome.cell)}#cell-{outcome.key}"


def row_link(row: Row) -> str:
    """Where a row stands: its page and anchor."""
    return f"{page_of(row)}#{row_anchor(row)}"


def row_anchor(row: Row) -> str:
    """A row's anchor on its page, which has one method, backbone and data set."""
    t = row.threat
    return f"row-{t.norm}-{t.eps.numerator}-{t.eps.denominator}-{t.modality}-{t.attack_resolution}-{row.seed}"


@lru_cache(maxsize=4096)
def _file(name: str) -> str:
    return file_name(name)


def histories(here: Iterable[Outcome], earlier: Iterable[Outcome] = ()) -> dict[Place, list[Past]]:
    """Every outcome of each cell id and seed, oldest first: other versions of code and data, and earlier nights.

    Args:
        here: outcomes whose files the board has.
        earlier: those of nights before; one that is here as well counts once.
    """
    known = {(o.key, made_at(o)): (o, True) for o in here}
    for outcome in earlier:
        known.setdefault((outcome.key, made_at(outcome)), (outcome, False))
    found: dict[Place, list[Past]] = defaultdict(list)
    for (key, made), (outcome, is_here) in sorted(known.items(), key=lambda pair: (pair[0][1], pair[0][0])):
        past = Past(made, robust(outcome), outcome.cell.code_digest[:8], key, is_here)
        found[outcome.cell.id, outcome.cell.seed].append(past)
    return found


def write_cell_pages(
    pages: Environment,
    shared: Mapping[str, object],
    rows: Sequence[Row],
    judged: Mapping[str, Verdict],
    past: Mapping[Place, Sequence[Past]],
    out: Path,
) -> None:
    """Writes `cells/<method>/<backbone>/<dataset>.html` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        rows: all of the board.
        judged: verdict of every claim.
        past: of every cell (`histories`).
        out: the site's folder.
    """
    spoken: dict[str, list[tuple[Claim, Verdict]]] = defaultdict(list)
    for claim in claims():
        for key in judged[claim.id].outcomes:
            spoken[key].append((claim, judged[claim.id]))
    places: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        places[page_of(row)].append(row)
    template = pages.get_template("cell.html.j2")
    for path, theirs in places.items():
        outcomes = {o.key: o for row in theirs for o in row.outcomes}
        held = {claim.id: (claim, verdict) for key in outcomes for claim, verdict in spoken.get(key, ())}
        text = template.render(
            **shared, root="../../../", rows=[(row, broken(row)) for row in theirs], outcomes=[*outcomes.values()],
            first=theirs[0], card=card_of(theirs[0].method), judged_here=[*held.values()],
            past=past, most_past=PAST,
        )  # fmt: skip
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text(text, encoding="utf-8")
