"""Which cells of a plan are finished in a folder, as far as their digests can be known without their weights."""

from collections.abc import Sequence
from pathlib import Path

from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.known_here import KnownHere, differing
from vlm_gauntlet.suites.tiers import Tier

from .work import key_of


def outcomes_in(folder: Path) -> list[Outcome]:
    """The outcomes of a folder that can be read; none where it is not there."""
    return Journal(folder).read_all()[0] if folder.is_dir() else []


def kept_seed(tier: Tier, given: int | None, folder: Path) -> int | None:
    """The seed that a run in this folder would take; None where it would draw a secret one. Nothing is written."""
    if given is not None or not tier.secret_seed:
        return tier.seed if given is None else given
    place = folder / f".seed-{tier.name}"
    kept = place.read_text() if place.is_file() else ""
    return int(kept) if kept.isdecimal() else None


def finished(cells: Sequence[CellPlan], outcomes: Sequence[Outcome], *, seed: int | None) -> set[str]:
    """Keys (`key_of`) of cells that a run would take from the folder.

    An outcome counts where every field of its cell is what it would be here; digests of weights that are not on this
    machine are taken on trust, and a run looks at them again.
    """
    if seed is None:
        return set()
    known, wanted = KnownHere(), {key_of(cell): cell for cell in cells}
    found = set()
    for outcome in outcomes:
        plan = wanted.get(key := f"{outcome.cell.id} [{outcome.cell.limit}]")
        if plan is None or outcome.cell.seed != seed or outcome.cell.protocol != plan.protocol:
            continue
        if _same(outcome, known):
            found.add(key)
    return found


def _same(outcome: Outcome, known: KnownHere) -> bool:
    cell, here = outcome.cell, datasets().get(outcome.cell.dataset)
    if here is not None and here.digest != cell.dataset_digest:
        return False
    return not differing(cell, known.digests(cell.method, cell.backbone, cell.protocol))
