"""How to cite: a method's paper, and one cell of this board. Every name is escaped for LaTeX."""

import re
from collections.abc import Sequence
from datetime import datetime

from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome

from .exports import latex_text

BOARD = "VLM Gauntlet: a reproducibility suite and leaderboard for adversarial defences of vision-language models"


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{latex_text(value)}}}," for name, value in fields.items() if value and value != "unknown"]
    return "\n".join([f"@{kind}{{{re.sub(r'[^A-Za-z0-9:_-]+', '-', key)},", *lines, "}"])


def of_paper(card: Card) -> str:
    """The paper behind a card."""
    authors = re.sub(r",\s+|\s+and\s+|;\s*", " and ", card.authors)
    place = {"booktitle": card.venue} if not card.venue.lower().startswith("arxiv") else {"note": card.venue}
    fields = {"title": card.paper, "author": authors, "year": str(card.year), **place, "url": card.url}
    return _entry("misc" if "note" in place else "inproceedings", f"{card.id}{card.year}", fields)


def of_cell(outcome: Outcome) -> str:
    """One cell: what was run, on how many samples, and the key under which it comes out again."""
    cell = outcome.cell
    return _entry("misc", f"gauntlet-{outcome.key[:12]}", {
        "title": f"{cell.id}: {100 * outcome.robust_accuracy:.1f} % of {outcome.n} samples stand",
        "author": "VLM Gauntlet maintainers", "year": str(outcome.provenance.made.year), "howpublished": BOARD,
        "note": f"Outcome {outcome.key}, seed {cell.seed}, limit {cell.limit}",
    })  # fmt: skip


def of_night(outcomes: Sequence[Outcome], retrieval: Sequence[RetrievalOutcome], made: datetime) -> str:
    """All outcomes of a board together, named by a digest over their keys and the times at which they were made."""
    found: list[Outcome | RetrievalOutcome] = [*outcomes, *retrieval]
    told = sorted(f"{o.key} {o.provenance.made.isoformat()}" for o in found)
    digest = sha256("\n".join(told).encode())[:16]
    return _entry("misc", f"gauntlet-night-{made:%Y-%m-%d}-{digest[:6]}", {
        "title": f"VLM Gauntlet, night of {made:%Y-%m-%d}: {len(told)} outcomes",
        "author": "VLM Gauntlet maintainers", "year": str(made.year), "howpublished": BOARD,
        "note": f"Digest of the outcomes' keys and dates {digest}",
    })  # fmt: skip
