"""Two folders of outcomes against each other: what is new, what is gone, what moved, which verdicts turned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.claims import Claim

from .comparison import Comparison, paired
from .formatting import interval
from .statistics import Estimate, mean_of
from .verdicts import verdicts
from .worst_case import scored_fractions

Place = tuple[str, int]  # id of a cell and its seed


@dataclass(frozen=True)
class Change:
    """One cell in two nights.

    Args:
        cell: its id.
        seed: its seed.
        before, after: robust accuracy; None where there was, or is, no outcome.
        key: of the outcome, the newer one where there are two.
    """

    cell: str
    seed: int
    before: Estimate | None
    after: Estimate | None
    key: str

    @property
    def words(self) -> str:
        """`41.2 [38.1, 44.3] → 12.0 [9.8, 14.6]`."""
        return f"{interval(self.before)} → {interval(self.after)}"


@dataclass(frozen=True)
class Flip:
    """A claim whose verdict is another."""

    claim: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True)
class Night:
    """What two nights differ in.

    Args:
        made: when the newest outcome of the later one was made: no clock is asked.
        new, vanished: cells that only one of them has.
        changed: cells of which each night's value lies outside the other's interval.
        moved: cells whose value is another within the intervals.
        same: number of cells whose value is the same.
        flips: claims whose verdict turned.
    """

    made: datetime
    new: tuple[Change, ...]
    vanished: tuple[Change, ...]
    changed: tuple[Change, ...]
    moved: tuple[Change, ...]
    same: int
    flips: tuple[Flip, ...]

    @property
    def sentence(self) -> str:
        """The night in one line."""
        counts = (
            (self.new, "new"), (self.vanished, "vanished"), (self.changed, "changed beyond the interval"),
            (self.moved, "moved within it"), (self.flips, "verdicts turned"),
        )  # fmt: skip
        told = [f"{len(what)} {word}" for what, word in counts if what]
        return f"{', '.join(told) or 'nothing is another'}; {self.same} the same"


def named(change: Change) -> str:
    """The cell, with its seed where that is not 0."""
    return change.cell + (f", seed {change.seed}" if change.seed else "")


def newest_of(outcomes: Sequence[Outcome]) -> dict[Place, Outcome]:
    """The newest outcome of each cell id and seed, sorted."""
    found: dict[Place, Outcome] = {}
    for outcome in sorted(outcomes, key=lambda o: (made_at(o), o.key)):
        found[outcome.cell.id, outcome.cell.seed] = outcome
    return dict(sorted(found.items()))


def made_at(outcome: Outcome) -> datetime:
    """When an outcome was made; one without a zone is of UTC."""
    made = outcome.provenance.made
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def robust(outcome: Outcome) -> Estimate:
    """What enters the worst case: of clean cells the clean accuracy."""
    return mean_of([*scored_fractions(outcome).values()])


def night(before: Sequence[Outcome], after: Sequence[Outcome], claims: Sequence[Claim] = ()) -> Night:
    """Compares two sets of outcomes, and what follows from them for claims.

    Args:
        before, after: sound outcomes; of one cell the newest counts.
        claims: those to judge by both.
    """
    old, now = newest_of(before), newest_of(after)
    both = [(_change(place, old[place], now[place])) for place in now if place in old]
    differing = [c for c in both if c.before != c.after]
    changed = tuple(c for c in differing if _beyond(c))
    return Night(
        made=max((made_at(o) for o in after), default=datetime.fromtimestamp(0, UTC)),
        new=tuple(_change(place, None, one) for place, one in now.items() if place not in old),
        vanished=tuple(_change(place, one, None) for place, one in old.items() if place not in now),
        changed=changed, moved=tuple(c for c in differing if c not in changed), same=len(both) - len(differing),
        flips=_flips(claims, before, after),
    )  # fmt: skip


def _change(place: Place, before: Outcome | None, after: Outcome | None) -> Change:
    either = after or before
    assert either is not None
    was, now = (None if one is None else robust(one) for one in (before, after))
    return Change(*place, was, now, either.key)


def _beyond(change: Change) -> bool:
    one, two = change.before, change.after
    assert one is not None and two is not None
    return not (one.low <= two.value <= one.high or two.low <= one.value <= two.high)


def _flips(claims: Sequence[Claim], before: Sequence[Outcome], after: Sequence[Outcome]) -> tuple[Flip, ...]:
    if not claims:
        return ()
    old, now = verdicts(claims, before), verdicts(claims, after)
    return tuple(Flip(c, old[c].word, v.word, v.reason) for c, v in now.items() if v.word != old[c].word)


@dataclass(frozen=True)
class Pair:
    """Two methods on one cell: accuracies, and where both saw the same samples the paired comparison."""

    where: str
    first: Estimate
    second: Estimate
    paired: Comparison | None


def pairs(one: str, two: str, outcomes: Sequence[Outcome]) -> list[Pair]:
    """Two methods under every protocol, data set, backbone and seed that both have."""
    by_method: dict[str, dict[tuple[str, str, str, int], Outcome]] = {one: {}, two: {}}
    for outcome in newest_of(outcomes).values():
        cell = outcome.cell
        if cell.method in by_method:
            by_method[cell.method][cell.backbone, cell.dataset, cell.protocol.id, cell.seed] = outcome
    found = []
    for place, first in by_method[one].items():
        if (second := by_method[two].get(place)) is None:
            continue
        ours, theirs = scored_fractions(first), scored_fractions(second)
        same = paired([*ours.values()], [theirs[i] for i in ours]) if ours.keys() == theirs.keys() else None
        name = ", ".join(place[:3]) + (f", seed {place[3]}" if place[3] else "")
        found.append(Pair(name, robust(first), robust(second), same))
    return found
