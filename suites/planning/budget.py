"""What fits into a budget: the cells that settle most, by value for an hour.

Greedy: what counts is whether all cells of a question (a claim, a row) have run; the next question is the one with the
most value for each second that is still to be spent on it. The order does not depend on the budget, and the first
question that does not fit ends the list: a larger budget takes all that a smaller one takes, so that no hour is lost
when the next night is longer. Better choices may exist.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True)
class Question:
    """What several cells settle together.

    Args:
        name: id.
        kind: `claim`, `sensitivity` (a claim under every reading of its protocol), `row` or `cell`.
        cells: ids of all cells that it needs.
        value: what an answer is worth.
    """

    name: str
    kind: str
    cells: frozenset[str]
    value: float = 1.0


@dataclass(frozen=True)
class Choice:
    """What a budget buys.

    Args:
        cells: ids, in the order in which they were chosen.
        settled: names of the questions that they settle.
        left: names of those that they do not.
        seconds: that the cells take.
        next: seconds that the first question left out would have taken; None where all fit.
    """

    cells: tuple[str, ...]
    settled: tuple[str, ...]
    left: tuple[str, ...]
    seconds: float
    next: float | None


def choose(questions: Sequence[Question], seconds: Mapping[str, float], budget: float) -> Choice:
    """The questions that a budget settles.

    Args:
        questions: what there is to settle; one with a cell that has no time cannot be settled.
        seconds: of each cell that can run; 0 where it is finished.
        budget: seconds in all.
    """
    groups: dict[frozenset[str], list[Question]] = defaultdict(list)
    for q in questions:
        groups[q.cells].append(q)
    able = {cells for cells in groups if all(cell in seconds for cell in cells)}
    users: dict[str, list[frozenset[str]]] = defaultdict(list)
    for cells in sorted(able, key=sorted):
        for cell in cells:
            users[cell].append(cells)
    left = {cells: sum(seconds[c] for c in sorted(cells)) for cells in able}
    worth = {cells: sum(q.value for q in groups[cells]) for cells in able}
    queue = [(_price(left[cells], worth[cells]), *_names(groups, cells), cells) for cells in able]
    heapify(queue)
    taken: dict[str, None] = {}
    settled: list[str] = []
    done: set[frozenset[str]] = set()
    spent, missed = 0.0, None
    while queue:
        price, _, cells = heappop(queue)
        if cells in done or price != _price(left[cells], worth[cells]):
            continue
        new = [c for c in sorted(cells) if c not in taken]
        cost = sum(seconds[c] for c in new)
        if spent + cost > budget:
            missed = cost
            break
        spent += cost
        done.add(cells)
        settled += [q.name for q in groups[cells]]
        for cell in new:
            taken[cell] = None
            for other in users[cell]:
                if other not in done:
                    left[other] = sum(seconds[c] for c in sorted(other) if c not in taken)
                    heappush(queue, (_price(left[other], worth[other]), *_names(groups, other), other))
    known = set(settled)
    return Choice(tuple(taken), tuple(settled), tuple(q.name for q in questions if q.name not in known), spent, missed)


def _price(seconds: float, value: float) -> float:
    """Seconds for a unit of value: the lower, the sooner."""
    return seconds / value if value else float("inf")


def _names(groups: Mapping[frozenset[str], Sequence[Question]], cells: frozenset[str]) -> tuple[str]:
    """What breaks ties, the same on every machine."""
    return (min(q.name for q in groups[cells]),)
