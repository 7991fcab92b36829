"""What makes a plan affordable, step by step: limits by cost, samples that leave early, and the time that there is.

Counts on paper are of images that no attack breaks. In a run an image leaves when it breaks, and where the protocol
allows it a wrong one is never attacked. What that saves is known of a method under a protocol once an outcome told it;
of others it is guessed from all outcomes of the same attack, on whatever backbone, and the plan says so.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.registry import Method, from_outside
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.described import Described, described

from .passes import Passes, passes
from .rates import Rate
from .sizes import size_of
from .work import told_passes


@dataclass(frozen=True)
class Step:
    """One way to run the same matrix.

    Args:
        words: what is done.
        seconds: of each cell on one device, by key.
    """

    words: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class Saved:
    """Shares of the passes on paper that outcomes took.

    Args:
        shares: by attack and the attacker's knowledge.
        outcomes: that told them.
    """

    shares: Mapping[tuple[str, str], float]
    outcomes: int


def saved(outcomes: Sequence[Outcome]) -> Saved:
    """What outcomes tell of what leaves early: all their passes over all that were counted on paper."""
    spent: dict[tuple[str, str], float] = defaultdict(float)
    paper: dict[tuple[str, str], float] = defaultdict(float)
    told, count = told_passes(outcomes), 0
    for o in outcomes:
        known = None if from_outside(o.cell.method) else _known(o.cell.method)
        size = size_of(o.cell.dataset)
        asked = known and passes(known, o.cell.protocol, classes=size.classes, backbone=o.cell.backbone)
        if asked:
            took = told[o.cell.method, o.cell.backbone, o.cell.protocol.digest]
            spent[_kind(o.cell.protocol)] += o.n * _sum(took)
            paper[_kind(o.cell.protocol)] += o.n * _sum(asked)
            count += 1
    return Saved({kind: spent[kind] / paper[kind] for kind in paper if paper[kind]}, count)


def steps(cells: Mapping[str, CellPlan], rate: Rate, outcomes: Sequence[Outcome], *, limit: int) -> list[Step]:
    """The same cells three times: every one on as many samples as the tier takes at most, as limited, as samples leave.

    Args:
        cells: what is left and can run, by key; of known cost.
        rate: of the device.
        outcomes: of any device and backbone.
        limit: samples of each data set at most.
    """
    told, early = told_passes(outcomes), saved(outcomes)
    whole, limited, left, fewer, guessed = {}, {}, {}, 0, 0
    for key, cell in cells.items():
        size = size_of(cell.dataset_name)
        n, most = size.taken(cell.limit), size.taken(max(limit, cell.limit))
        each = passes(cell.method, cell.protocol, classes=size.classes, backbone=cell.backbone_name)
        known = told.get((cell.method.label, cell.backbone_name, cell.protocol.digest))
        if n is None or (each := each or known) is None:
            continue
        whole[key], limited[key] = (rate.seconds(each.times(count or n)) for count in (most, n))
        fewer += (most or n) > n
        share = early.shares.get(_kind(cell.protocol))
        guessed += known is None and share is not None
        left[key] = rate.seconds((known or each.times(1.0 if share is None else share)).times(n))
    found = [
        Step(f"every method on {limit} samples of each set, none leaving early", whole),
        Step(f"limits by cost: {fewer} cells of methods that take many passes get fewer samples", limited),
    ]
    if early.outcomes:
        guess = f"; {guessed} cells guessed from the same attack elsewhere" if guessed else ""
        found.append(Step(f"samples leave early, as in {early.outcomes} outcomes here{guess}", left))
    return found


def _kind(protocol: Protocol) -> tuple[str, str]:
    return protocol.attack.name, protocol.threat.knowledge


def _sum(found: Passes) -> float:
    return found.forward + found.backward


@cache
def _known(label: str) -> Method | Described | None:
    try:
        return described(label)
    except GauntletError:
        return None
