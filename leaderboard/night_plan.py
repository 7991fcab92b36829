"""The plan of a run: its cells with their costs, what they settle, what fits into a budget."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_gauntlet.fixtures.datasets import is_reachable
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.methods.claims import Claim
from vlm_gauntlet.methods.registry import Method, methods
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.described import Described
from vlm_gauntlet.suites.planning.budget import Choice, Question, choose
from vlm_gauntlet.suites.planning.finished import finished, outcomes_in
from vlm_gauntlet.suites.planning.passes import Passes
from vlm_gauntlet.suites.planning.rates import Rate
from vlm_gauntlet.suites.planning.schedule import Schedule, schedule
from vlm_gauntlet.suites.planning.work import Work, key_of, told_passes, with_done, work_of

from .settled import claim_questions, lacks_checkpoint, row_questions

LEAST = 1e-9  # what a cell of the tier is worth by itself: it fills the time that claims and rows leave


@dataclass(frozen=True)
class NightPlan:
    """A plan.

    Args:
        cells: what a run would do, in its order, the tier's first.
        works: the same with costs.
        rate: of the device.
        questions: what the cells settle.
        blocked: claim id -> why no cell settles it.
        lacking: keys of cells whose method has no checkpoint for the backbone, or (`here`) whose data set is not on
            this machine: they are counted and never chosen.
        families: claim id -> its source and reported protocol.
    """

    cells: tuple[CellPlan, ...]
    works: tuple[Work, ...]
    rate: Rate
    questions: tuple[Question, ...]
    blocked: dict[str, str]
    lacking: frozenset[str]
    families: dict[str, tuple[str, str]]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds left of each cell that can run and whose cost is known, by key."""
        return {w.key: w.left for w in self.works if w.done or (w.seconds is not None and w.key not in self.lacking)}

    @property
    def passes(self) -> Passes:
        """Of all cells that are not done and tell what they take, whether or not they can run here."""
        total = Passes(0, 0)
        for work in self.works:
            total += work.passes if work.passes and not work.done else Passes(0, 0)
        return total

    @property
    def hours(self) -> float:
        """That are left on one device, of all these cells."""
        return sum(w.left for w in self.works) / 3600

    @property
    def runnable_hours(self) -> float:
        """The same of those that can run here."""
        return sum(self.seconds.values()) / 3600

    def here(self) -> "tuple[NightPlan, tuple[str, ...]]":
        """The plan of what can run on this machine, and the data sets that are missing for the rest."""
        absent = {cell.dataset_name for cell in self.cells if not is_reachable(cell.dataset_name)}
        without = frozenset(key_of(cell) for cell in self.cells if cell.dataset_name in absent)
        return replace(self, lacking=self.lacking | without), tuple(sorted(absent))

    def chosen(self, budget: float) -> Choice:
        """What so many seconds on one device settle."""
        return choose(self.questions, self.seconds, budget)

    def spread(self, machines: int, keys: Sequence[str] | None = None) -> Schedule:
        """The schedule of what is left, or of some cells of it."""
        wanted = self.seconds if keys is None else {k: self.seconds[k] for k in keys}
        return schedule({key: seconds for key, seconds in wanted.items() if seconds}, machines)

    def by(self, field: str) -> list[tuple[str, int, float]]:
        """(name, cells, hours left) by `method`, `dataset` or `protocol`, the dearest first."""
        cells: Counter[str] = Counter()
        hours: Counter[str] = Counter()
        for work in self.works:
            cells[getattr(work, field)] += 1
            hours[getattr(work, field)] += work.left / 3600  # type: ignore[assignment]
        return sorted(((n, cells[n], float(hours[n])) for n in cells), key=lambda line: (-line[2], line[0]))

    def claim_families(self) -> list[tuple[str, str, int, int, float, int]]:
        """(source, reported protocol, claims, cells, hours, blocked) of each family of claims."""
        needs = {q.name: q.cells for q in self.questions if q.kind == "claim"}
        found = []
        for family in sorted(set(self.families.values())):
            own = [c for c, f in self.families.items() if f == family]
            cells = frozenset[str]().union(*(needs[c] for c in own if c in needs))
            hours = sum(self.seconds.get(k, 0.0) for k in cells) / 3600
            found.append((*family, len(own), len(cells), hours, sum(c in self.blocked for c in own)))
        return found


def night_plan(
    tier_cells: Sequence[CellPlan],
    claims: Sequence[Claim],
    rate: Rate,
    folder: Path,
    *,
    backbone: str,
    seed: int | None,
    trained: bool = False,
) -> NightPlan:
    """Plans the cells of a tier and those that claims ask for.

    Args:
        tier_cells: of the tier.
        claims: that the run should settle.
        rate: of the device.
        folder: of outcomes: what is finished there costs nothing, and what it tells of costs is used.
        backbone: what all stand on.
        seed: of the run; None: a secret one that is not drawn yet, so that nothing is finished.
        trained: see `settled.claim_questions`.
    """
    outcomes: list[Outcome] = outcomes_in(folder)
    first = tier_cells[0]
    asked = claim_questions(
        claims, backbone, seed=first.seed, device=first.device, batch_size=first.batch_size, trained=trained
    )
    cells = list({key_of(cell): cell for cell in (*tier_cells, *asked.cells)}.values())
    told = told_passes(outcomes)
    done = finished(cells, outcomes, seed=seed)
    works = with_done([work_of(cell, rate, told) for cell in cells], done)
    lacking = frozenset(key_of(c) for c in cells if not trained and lacks_checkpoint(_card(c.method), backbone))
    families = {c.id: (c.source, c.protocol) for c in claims}
    empty = NightPlan(tuple(cells), tuple(works), rate, (), asked.blocked, lacking, families)
    single = [Question(key, "cell", frozenset([key]), LEAST) for key in map(key_of, tier_cells)]
    return replace(empty, questions=(*asked.questions, *row_questions(tier_cells, empty.seconds), *single))


def _card(method: Method | Described) -> Card:
    """The card that says which weights are needed: of `ttc@tecoa` the tower's."""
    tower = methods().get(method.name.partition("@")[2].partition("+")[0])
    return method.card if method.card.weights or tower is None else tower.card
