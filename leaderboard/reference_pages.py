"""The pages to look things up on: data sets, attacks, protocols, backbones, kinds of defence; and their index."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment

from vlm_gauntlet.attacks.protocols import parts as protocol_files
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.protocols import NO_ATTACK
from vlm_gauntlet.fixtures.reported import parts as reported_files
from vlm_gauntlet.methods.claims import claims

from . import places
from .attack_facts import attack_facts, with_links
from .attack_pages import names as attack_names
from .attack_pages import write_attack_pages
from .backbone_pages import backbone_facts, write_backbone_pages
from .backbone_pages import names as backbone_names
from .dataset_pages import claims_by_set, known_set, write_dataset_pages
from .dataset_pages import names as dataset_names
from .evidence import Evidence
from .protocol_pages import write_protocol_pages
from .rows import Row
from .sweeps import Sweep
from .taxonomy_page import write_taxonomy_page
from .verdicts import Verdict

FILTERS: dict[str, Callable[..., Any]] = {
    "dataset_page": places.dataset_page, "reported_set_page": places.reported_set_page,
    "attack_page": places.attack_page, "protocol_page": places.protocol_page, "backbone_page": places.backbone_page,
    "named_protocol_page": places.named_protocol_page,
    "reported_backbone_page": places.reported_backbone_page, "with_links": with_links,
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What the board found out before: its rows, the verdict of every claim, and curves over eps."""

    rows: Sequence[Row]
    judged: Mapping[str, Verdict]
    swept: Sequence[Sweep]


def write_reference_pages(
    pages: Environment, shared: Mapping[str, object], evidence: Evidence, known: Known, out: Path
) -> None:
    """Writes `reference.html`, `taxonomy.html` and the pages of what they list into a site.

    Args:
        pages, shared: environment, and what every page knows.
        evidence: that the board is made of.
        known: what it found in it.
        out: the site's folder, with an empty folder `datasets`.
    """
    rows, judged = known.rows, known.judged
    controls, cells = evidence.controls, [outcome.cell for outcome in evidence.retrieval]
    sets, backbones = {cell.dataset for cell in cells}, {cell.backbone for cell in cells}
    write_dataset_pages(pages, shared, rows, judged, controls, out, sets)
    write_attack_pages(pages, shared, rows, known.swept, judged, out)
    write_protocol_pages(pages, shared, rows, judged, out)
    write_backbone_pages(pages, shared, rows, judged, controls, out, backbones)
    write_taxonomy_page(pages, shared, sorted({row.method for row in rows}), out)
    ran = {o.key: o.cell.protocol for row in rows for o in row.outcomes}.values()
    numbers = Counter(claim.protocol for claim in claims())
    text = pages.get_template("reference.html.j2").render(
        **shared, root="",
        datasets=[known_set(name) for name in dataset_names(rows, sets)],
        methods_on=_methods(rows, "dataset"), methods_of=_methods(rows, "backbone"),
        claims_on={name: len(theirs) for name, theirs in claims_by_set().items()},
        lists=sorted(known_datasets().list.items()),
        attacks=[attack_facts(name) for name in attack_names(rows)],
        attacked=Counter(protocol.attack.name for protocol in ran),
        best=Counter(r.beaten.outcome.cell.protocol.attack.name for r in rows if r.beaten and not r.control),
        families=[
            (stem, made[0].title.partition(", made ")[0], made[0].attack.name, len(made), places.family_page(stem))
            for stem, made in protocol_files().usable.items()
        ],
        by_page=Counter(places.protocol_page(protocol.id).partition("#")[0] for protocol in ran),
        elsewhere=places.family_page(places.ELSEWHERE), no_attack=NO_ATTACK,
        sources=[
            (name, len(made), places.family_page(name, reported=True), sum(numbers[p.id] for p in made))
            for name, made in reported_files().usable.items()
        ],
        backbones=[backbone_facts(name) for name in backbone_names(rows, backbones)],
    )  # fmt: skip
    (out / "reference.html").write_text(text, encoding="utf-8")


def _methods(rows: Sequence[Row], part: str) -> Counter[str]:
    """How many methods were attacked on each data set or backbone."""
    return Counter(name for name, _ in {(getattr(row, part), row.method) for row in rows if not row.control})
