"""Whether our own frozen outcomes come out again: the same cell on the same samples, so that code alone is compared.

Nothing here is drawn from a population, and no interval is given. A cell is `unchanged` where every sample is as it
was. One sample near a tie may flip on another processor, whose sums differ in their last bits: how likely so many flips
are, if that is all, is said with the word, and only what it cannot explain is a fault.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy.stats import binom

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.mini_claims import MiniClaim

from .comparison import ALPHA, false_discovery
from .statistics import Estimate, mean_of

# The share of predictions so near to a tie that another processor's rounding may flip them. `make processors` counts
# them: no flip among 960 bits would still be compatible with 0.4 %.
NEAR_TIES = 0.01


@dataclass(frozen=True)
class Repeat:
    """One frozen outcome beside what was run now.

    Args:
        claim: id of the mini claim.
        word: `unchanged`: every sample has its frozen bit; `changed`: at least one has another; `not checkable`: what
            ran has other weights, data, protocol or seed; `not run`.
        reason: one sentence.
        observed: the accuracy now, where both could be compared.
        n, draws, flipped: samples compared, scoring draws of each, and samples of which any draw has another bit.
        q: chance of so many flips by rounding alone, after Benjamini-Hochberg over all cells; None where not compared.
        command: what would run it, where something would.
    """

    claim: str
    word: Literal["unchanged", "changed", "not checkable", "not run"]
    reason: str
    observed: Estimate | None = None
    n: int = 0
    draws: int = 1
    flipped: int = 0
    q: float | None = None
    command: str = ""

    @property
    def fault(self) -> bool:
        """Whether more changed than the rounding of another processor explains."""
        return self.q is not None and self.q < ALPHA


def mini_verdicts(frozen: Sequence[MiniClaim], outcomes: Sequence[Outcome]) -> dict[str, Repeat]:
    """What became of each mini claim, by its id; false alarms are controlled over all of them."""
    comparable = filter(MiniClaim.holds, sorted(outcomes, key=lambda o: o.n))
    here = {r.setting: r for r in map(MiniClaim.of, comparable)}
    ids = {r.id for r in here.values()}
    found = {}
    for claim in frozen:
        if claim.setting in here:
            found[claim.id] = _compared(claim, here[claim.setting])
        elif claim.id in ids:
            reason = "Weights, data, samples, protocol or seed are not the frozen ones; if that is meant, freeze again."
            found[claim.id] = Repeat(claim.id, "not checkable", reason)
        else:
            found[claim.id] = Repeat(claim.id, "not run", "This cell was not run.", command=_command(claim))
    tested = [r for r in found.values() if r.n]
    p_values = [float(binom.sf(r.flipped - 1, r.n, 1 - (1 - NEAR_TIES) ** r.draws)) for r in tested]
    for one, q in zip(tested, false_discovery(p_values), strict=True):
        found[one.claim] = _judged(one, q)
    return found


def _compared(frozen: MiniClaim, run: MiniClaim) -> Repeat:
    n = min(len(frozen.fractions), len(run.fractions))
    ours = run.fractions[:n]
    flipped = sum(now != before for now, before in zip(ours, frozen.fractions[:n], strict=True))
    return Repeat(frozen.id, "changed" if flipped else "unchanged", "", mean_of(ours), n, frozen.draws, flipped)


def _judged(one: Repeat, q: float) -> Repeat:
    if not one.flipped:
        return replace(one, q=q, reason=f"All {one.n} samples are as they were.")
    few = (
        "as rounding on another processor may do" if q >= ALPHA else "more than rounding does: the code runs otherwise"
    )
    return replace(one, q=q, reason=f"{one.flipped} of {one.n} samples flipped, {few} (q = {q:.2g}).")


def _command(frozen: MiniClaim) -> str:
    return (
        f"gauntlet run --method {frozen.method} --backbone {frozen.backbone} --dataset {frozen.dataset} "
        f"--protocol {frozen.protocol} --seed {frozen.seed} --limit {len(frozen.clean)}"
        + (f" --batch-size {frozen.batch_size}" if frozen.batch_size else "")
    )
