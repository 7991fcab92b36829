"""Verdicts on the mini claims, by the machinery that judges papers: the same samples, so that only flips count."""

from collections.abc import Sequence

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.mini_claims import MiniClaim

from .comparison import false_discovery, paired
from .statistics import mean_of
from .verdicts import Verdict, judge


def mini_verdicts(frozen: Sequence[MiniClaim], outcomes: Sequence[Outcome]) -> dict[str, Verdict]:
    """A verdict for each mini claim, by its id; false discoveries are controlled over all of them."""
    comparable = filter(MiniClaim.holds, sorted(outcomes, key=lambda o: o.n))
    here = {r.setting: r for r in map(MiniClaim.of, comparable)}
    ids = {r.id for r in here.values()}
    found = {}
    for claim in frozen:
        if claim.setting in here:
            found[claim.id] = _compared(claim, here[claim.setting])
        elif claim.id in ids:
            reason = (
                "Weights, data, protocol or seed are not those of the frozen outcome; if that is meant, freeze again."
            )
            found[claim.id] = Verdict(claim.id, "not checkable", reason)
        else:
            found[claim.id] = Verdict(claim.id, "not run", "This cell was not run.", command=_command(claim))
    tested = [v for v in found.values() if v.comparison]
    for one, q in zip(tested, false_discovery([v.comparison.p for v in tested if v.comparison]), strict=True):
        found[one.claim] = judge(one, q)
    return found


def _compared(frozen: MiniClaim, run: MiniClaim) -> Verdict:
    n = min(len(frozen.fractions), len(run.fractions))
    ours = run.fractions[:n]
    return Verdict(frozen.id, "inconclusive", "", mean_of(ours), paired(ours, frozen.fractions[:n]))


def _command(frozen: MiniClaim) -> str:
    return (
        f"gauntlet run --method {frozen.method} --backbone {frozen.backbone} --dataset {frozen.dataset} "
        f"--protocol {frozen.protocol} --seed {frozen.seed} --limit {len(frozen.clean)}"
        + (f" --batch-size {frozen.batch_size}" if frozen.batch_size else "")
    )
