"""Verdicts: each claim against the outcomes that speak of it, with a reason in one sentence."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Literal, TypeVar, get_args

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import reported_as, set_of
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.fixtures.reported import readings, reported_protocol
from vlm_gauntlet.fixtures.stand_in import in_place_of
from vlm_gauntlet.methods.claims import PERCENT, Claim
from vlm_gauntlet.methods.registry import method, methods, unusable
from vlm_gauntlet.methods.released import named, of_label
from vlm_gauntlet.suites.indicators import BROKEN_ATTACK
from vlm_gauntlet.suites.runnable import runnable

from . import sensitivity
from .comparison import ALPHA, MARGIN, Comparison, SeedSpread, false_discovery, samples_needed, two_sample
from .flags import MASKING
from .matching import BACKBONES, Match, NearMiss, match
from .statistics import Estimate, mean_of
from .trainings import spread

Plain = Literal["reproduced", "below claim", "above claim", "inconclusive", "not checkable", "not run", "failed"]
Word = Plain | sensitivity.Word
WORDS: tuple[Word, ...] = (*get_args(Plain), *sensitivity.WORDS)
TRAINED = ("fine-tuning", "prompt-tuning")
K = TypeVar("K")


@dataclass(frozen=True)
class Verdict:
    """What can be said of a claim.

    Args:
        claim: id of the claim.
        word: the verdict. `inconclusive`: the interval can neither refute nor confirm it. The words of `sensitivity`
            speak of a claim whose source leaves a field open.
        reason: one sentence.
        observed: our accuracy, where there is one.
        comparison: the test, where there was one; `q` is its p-value after Benjamini-Hochberg over the night.
        near: outcomes that do not count, with the fields that differ.
        command: what would run it, where something would.
        outcomes: keys of those that it was compared with.
        readings: id of a reading of the protocol -> the verdict under it, where the word is one of sensitivity.
    """

    claim: str
    word: Word
    reason: str
    observed: Estimate | None = None
    comparison: Comparison | None = None
    q: float | None = None
    near: tuple[NearMiss, ...] = ()
    command: str = ""
    outcomes: tuple[str, ...] = ()
    readings: tuple[tuple[str, "Verdict"], ...] = ()


def verdicts(claims: Sequence[Claim], outcomes: Sequence[Outcome]) -> dict[str, Verdict]:
    """A verdict for each claim. False discoveries are controlled over all claims that were tested together.

    Claims under several readings of their protocol are tested apart: they change no p-value of the others.

    Args:
        claims: what sources report.
        outcomes: everything that was run.
    """
    about = defaultdict(list)
    for outcome in outcomes:
        about[outcome.cell.method.partition("+")[0], reported_as(outcome.cell.dataset)].append(outcome)
    found = {c.id: _untested(c, about[c.method, c.dataset]) for c in claims}
    ways = {c.id: readings_of(c) for c in claims if found[c.id].word == "not checkable"}
    under = _judged(
        {(c.id, c.protocol): _untested(c, about[c.method, c.dataset]) for way in ways.values() for c in way}
    )
    plain = _judged(found)
    sensitive = {
        name: _sensitive(plain[name], {one.protocol: under[name, one.protocol] for one in way})
        for name, way in ways.items()
        if way
    }
    return plain | sensitive


def readings_of(claim: Claim) -> list[Claim]:
    """A claim once for each way to read its protocol, where these settle every field and the number of samples."""
    if claim.metric not in PERCENT or claim.dataset not in known_datasets().dataset:
        return []
    found = [claim.model_copy(update={"protocol": name}) for name in readings(claim.protocol)]
    return found if claim.n is not None or all(map(whole, found)) else []


def _judged(found: dict[K, Verdict]) -> dict[K, Verdict]:
    """Verdicts with the word of their comparison, where there was one."""
    tested = {key: v.comparison.p for key, v in found.items() if v.comparison is not None}
    qs = false_discovery(list(tested.values()))
    return found | {key: judge(found[key], q) for key, q in zip(tested, qs, strict=True)}


def _sensitive(plain: Verdict, under: Mapping[str, Verdict]) -> Verdict:
    """A claim's word from those of its readings, by the protocol's id."""
    mine = sorted(under.items())
    word, reason = sensitivity.sensitivity({name.partition("+")[2]: verdict.word for name, verdict in mine})
    missing = " && ".join(verdict.command for _, verdict in mine if verdict.command)
    return replace(plain, word=word, reason=reason, command=missing, readings=tuple(mine))


def judge(tested: Verdict, q: float) -> Verdict:
    """The word for a comparison, given its p-value corrected for the night.

    What is shown to be within MARGIN is `reproduced`, also where a smaller difference is beyond chance: with samples
    enough every difference is, and the reason then says so. Beyond chance, and not shown to be within: below or above.
    """
    comparison = tested.comparison
    assert comparison is not None
    gap = f"{100 * comparison.difference:+.1f} points [{100 * comparison.low:+.1f}, {100 * comparison.high:+.1f}]"
    sure = f"{comparison.test}, q = {q:.2g}"
    margin = f"{100 * MARGIN:.0f} points"
    if comparison.equivalent:
        small = ", a difference beyond chance and" if q < ALPHA else ","
        reason = f"{gap} from the claim{small} within {margin} ({sure})."
        return replace(tested, word="reproduced", q=q, reason=reason)
    if q < ALPHA:
        word: Word = "below claim" if comparison.difference < 0 else "above claim"
        said = "a stronger attack, or a number that does not hold" if word == "below claim" else "is our attack weaker?"
        return replace(tested, word=word, q=q, reason=f"{gap} from the claim ({sure}): {said}.")
    reason = f"{gap} from the claim is no proof of a difference, and too wide for {margin} ({sure})."
    return replace(tested, word="inconclusive", q=q, reason=reason)


def _untested(claim: Claim, outcomes: Sequence[Outcome]) -> Verdict:
    """Everything that can be said before p-values are looked at together."""
    if claim.metric not in PERCENT:
        return Verdict(claim.id, "not checkable", "Only accuracies and recalls are measured here.")
    reported = reported_protocol(claim.protocol)
    if reported.retrieval:
        return Verdict(claim.id, "not checkable", "Retrieval is no cell of a classifier: see `gauntlet retrieval`.")
    if claim.dataset not in known_datasets().dataset:
        return Verdict(claim.id, "not checkable", "A mean is checked cell by cell, and by the audit.")
    if unknown := reported.unknown_fields():
        return Verdict(claim.id, "not checkable", f"The source does not say: {', '.join(unknown)}.")
    if broken := unusable().get(claim.method):
        return Verdict(claim.id, "not run", f"{claim.method!r} cannot be used here: {broken.short}.")
    found = match(claim, outcomes)
    if found.outcomes:
        return _compared(claim, found)
    return _not_run(claim, found)


def _not_run(claim: Claim, found: Match) -> Verdict:
    if standing := next((m.outcome.cell.backbone for m in found.near if _only_stands_in(claim, m)), ""):
        reason = f"Stand-in weights: {standing} is drawn at random, in the place of {claim.backbone}."
        return Verdict(claim.id, "not checkable", reason, near=found.near)
    if claim.method not in methods():
        return Verdict(claim.id, "not run", f"{claim.method!r} is not implemented here yet.", near=found.near)
    if claim.backbone not in BACKBONES:
        return Verdict(claim.id, "not run", f"No weights are known here for {claim.backbone!r}.", near=found.near)
    reported = reported_protocol(claim.protocol)
    can = runnable(reported, claim.dataset)
    if can.obstacles:
        return Verdict(claim.id, "not run", f"It cannot run here: {'; '.join(can.obstacles)}.", near=found.near)
    name = named(claim.method, claim.variant, BACKBONES[claim.backbone], claim.trained_on)
    name = name or claim.method + (f"+{claim.variant}" if claim.variant else "")
    if claim.variant and not _is_method(name):
        reason = f"It cannot run here: no switch of {claim.method!r} makes {claim.variant!r}."
        return Verdict(claim.id, "not run", reason, near=found.near)
    command = (
        f"gauntlet run --method {name} --backbone {BACKBONES[claim.backbone]} "
        f"--dataset {set_of(reported.samples, claim.dataset)} --protocol {claim.protocol} --limit 1000000 --device cuda"
    )
    weights = "the weights of real CLIP" + (" and of BERT" if reported.attacks_text else "")
    reason = f"No outcome with this protocol: it wants {weights}, the data set and a GPU."
    if found.near:
        reason = f"No outcome has this protocol; the nearest differs in {found.near[0].differences[0]}."
    return Verdict(claim.id, "not run", reason, near=found.near, command=command)


@cache
def _is_method(name: str) -> bool:
    try:
        method(name)
    except GauntletError:
        return False
    return True


def _only_stands_in(claim: Claim, near: NearMiss) -> bool:
    """Whether an outcome is what a claim asks for, but for weights that are none."""
    cell = near.outcome.cell
    real = BACKBONES.get(claim.backbone, "")
    stands = cell.backbone != real and in_place_of(cell.backbone, real)
    return stands and {difference.field for difference in near.differences} == {"backbone"}


def _compared(claim: Claim, found: Match) -> Verdict:
    first = found.outcomes[0]
    fractions = [
        min(o.samples[i].attacked / o.draws for o in found.outcomes) for i in range(first.n)
    ]  # an ensemble of attacks: worst case of each sample
    observed = mean_of(fractions)
    base = Verdict(
        claim.id, "not checkable", "", observed=observed, near=found.near, outcomes=tuple(o.key for o in found.outcomes)
    )
    fired = {i.name for o in found.outcomes for i in o.indicators if i.fired}
    if broken := sorted(fired & BROKEN_ATTACK):
        return replace(base, word="failed", reason=f"The attack itself is broken: {', '.join(broken)}.")
    claimed_n = claim.n or (first.n if first.n < first.cell.limit and whole(claim) else None)
    if claimed_n is None:
        return replace(base, reason="The source does not say on how many samples it measured.")
    between = None
    ours = of_label(first.cell.method, first.cell.backbone) is None  # released weights are the source's own training
    if ours and methods()[claim.method].card.paradigm in TRAINED:
        declared = SeedSpread(claim.sd / 100, 1) if claim.sd else None
        clean = reported_protocol(claim.protocol).clean
        try:
            between = spread(claim.method, first.cell.backbone, clean=clean) or declared
        except GauntletError as unread:
            return replace(base, reason=f"How much trainings differ cannot be read: {unread.short}.")
        if between is None:
            return replace(base, reason="It was trained again here, and nobody measured how much trainings differ.")
    comparison = two_sample(
        sum(fractions), first.n, claim.number / 100, claimed_n, rounding=claim.rounding / 100, spread=between
    )
    needed = samples_needed(claim.number / 100, claimed_n)
    hint = "" if needed is None or needed <= first.n else f"; {needed} samples would tell"
    masked = f"; the gradient is masked ({', '.join(sorted(fired & MASKING))})" if fired & MASKING else ""
    return replace(base, comparison=replace(comparison, test=comparison.test + hint + masked))


def whole(claim: Claim) -> bool:
    """Whether it is about a whole test split."""
    return reported_protocol(claim.protocol).samples.startswith("whole")


def needs_spread(claim: Claim, backbone: str) -> bool:
    """Whether nobody knows how much trainings of its method differ on a backbone."""
    if methods()[claim.method].card.paradigm not in TRAINED or claim.sd:
        return False
    return spread(claim.method, backbone, clean=reported_protocol(claim.protocol).clean) is None


def explained_by(claim: Claim) -> str:
    """The recorded deviation between paper and code that explains a claim which does not hold; empty if none does."""
    if claim.method not in methods():
        return ""
    for deviation in methods()[claim.method].card.deviations:
        if any(fnmatchcase(claim.id, pattern) for pattern in deviation.explains):
            return f"{deviation.name}: {deviation.differs}"
    return ""
