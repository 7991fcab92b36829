"""The cells of a plan with what each of them takes, and which of them are done."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.cells import CellPlan

from .passes import Passes, passes
from .rates import Rate
from .sizes import size_of

Told = Mapping[tuple[str, str, str], Passes]


@dataclass(frozen=True)
class Work:
    """One cell of a plan.

    Args:
        key: `key_of` the cell.
        id: of the cell.
        method, dataset, protocol: by name.
        n: samples; None where nobody knows how many the set has.
        passes: of the whole cell; None where method or attack do not say what they take.
        seconds: on one device; None likewise.
        counted: whether the passes are an upper bound on paper, else outcomes told them.
        done: whether a finished outcome lies here.
    """

    key: str
    id: str
    method: str
    dataset: str
    protocol: str
    n: int | None
    passes: Passes | None
    seconds: float | None
    counted: bool = True
    done: bool = False

    @property
    def left(self) -> float:
        """Seconds that are still to be spent on it."""
        return 0.0 if self.done else self.seconds or 0.0


def key_of(cell: CellPlan) -> str:
    """What tells the cells of one plan apart: two of one id may take other samples."""
    return f"{cell.id} [{cell.limit}]"


def told_passes(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, str], Passes]:
    """Mean passes for one image that outcomes took, by method, backbone and protocol, over all data sets and seeds.

    Samples that broke early are in it, so that it lies below what can be counted on paper.
    """
    sums: dict[tuple[str, str, str], list[tuple[float, float, int]]] = defaultdict(list)
    for o in outcomes:
        answers = 2 * o.draws + o.confirming
        spent = [
            attack + answers * defence
            for attack, defence in (
                (o.attack_cost.forward, o.defence_cost.forward), (o.attack_cost.backward, o.defence_cost.backward),
            )
        ]  # fmt: skip
        sums[o.cell.method, o.cell.backbone, o.cell.protocol.digest].append((spent[0], spent[1], o.n))
    return {
        place: Passes(sum(f for f, _, _ in found) / n, sum(b for _, b, _ in found) / n)
        for place, found in sums.items()
        if (n := sum(n for _, _, n in found))
    }


def work_of(cell: CellPlan, rate: Rate, told: Told) -> Work:
    """What a cell takes: by what outcomes told of the same method, backbone and protocol, else counted on paper."""
    size = size_of(cell.dataset_name)
    n = size.taken(cell.limit)
    known = told.get((cell.method.label, cell.backbone_name, cell.protocol.digest))
    each = known or passes(cell.method, cell.protocol, classes=size.classes, backbone=cell.backbone_name)
    whole = None if each is None or n is None else each.times(n)
    return Work(
        key_of(cell), cell.id, cell.method.label, cell.dataset_name, cell.protocol.id, n, whole,
        None if whole is None else rate.seconds(whole), counted=known is None,
    )  # fmt: skip


def with_done(works: Sequence[Work], done: Collection[str]) -> list[Work]:
    """The same, those marked that are finished here; `done` holds the keys of cells."""
    return [replace(w, done=w.key in done) for w in works]
