"""Whether an outcome can be true: of the data that lie here, of the code that is here, of its own numbers.

A record that validates may still be forged, made by other code, or of another data set. What is judged here costs
seconds for a whole board and finds lies that contradict something; `suites/verify.py` finds the others by computing.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, TypeVar

import torch

from vlm_gauntlet.attacks import indicators
from vlm_gauntlet.attacks.adaptive.ensemble import AdaptiveEnsemble
from vlm_gauntlet.attacks.autoattack import AutoPGD
from vlm_gauntlet.attacks.base import Attack
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.registry import attacks, build
from vlm_gauntlet.fixtures.backbones import OPEN_CLIP, embedded
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, problems
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol
from vlm_gauntlet.fixtures.records import Indicator, Outcome
from vlm_gauntlet.methods.late_files import moved

from .batch import NOT_REPLAYED, confirming_draws, is_checked
from .known_here import KnownHere, differing

R = TypeVar("R")
Kind = Literal["impossible", "incomplete", "unknown here", "not checked here"]
UNJUDGED = "it could not be judged"
COUNTS = ("steps", "restarts", "queries", "eot", "inner_steps")  # parameters of which none means no attack
DIGESTS = {
    "code_digest": "code", "attack_digest": "code of the attack", "method_digest": "method (weights and data)",
    "backbone_digest": "backbone", "text_source_digest": "source of words or perturbation",
}  # fmt: skip


@dataclass(frozen=True)
class Doubt:
    """One reason not to take an outcome as it is.

    Args:
        kind: `impossible`: no run of this code gives it, so that it is set aside; `incomplete`: samples are missing;
            `unknown here`: other code, data or names; both are shown, and not ranked; `not checked here`: said beside.
        meaning: in words.
    """

    kind: Kind
    meaning: str


def doubts(outcome: Outcome, here: KnownHere) -> list[Doubt]:
    """Everything that speaks against an outcome, or could not be looked at; empty for one that this code may have made.

    Args:
        outcome: any that validates.
        here: what is known.
    """
    found: list[Doubt] = []
    for check in (_protocol, _samples, _draws, _indicators, _code):
        try:
            found += check(outcome, here)
        except GauntletError as error:
            found.append(Doubt("unknown here", error.short))
    return found


def judgement(judge: Callable[[R, KnownHere], list[Doubt]], record: R, here: KnownHere) -> list[Doubt]:
    """What a judge says of a record; where he fails, that: a forger loses one file of the board, not the board."""
    try:
        return judge(record, here)
    except Exception as error:
        return [Doubt("impossible", f"{UNJUDGED}: {type(error).__name__}: {problems(error)[0]}")]


def _protocol(outcome: Outcome, here: KnownHere) -> Iterator[Doubt]:
    asked = outcome.cell.protocol
    name = asked.attack.name
    for count in COUNTS:
        value = asked.attack.parameters.get(count, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield Doubt("impossible", f"an attack with {count} = {value!r}")
    if (asked.threat.knowledge == "none") != (name == NO_ATTACK):
        yield Doubt("impossible", f"attack {name!r} of an attacker who knows {asked.threat.knowledge}")
    if name != NO_ATTACK and name not in attacks():
        yield Doubt("unknown here", f"attack {name!r} is not known here")
        return
    try:
        _built(asked)
    except GauntletError as error:
        yield Doubt("impossible", f"a protocol that cannot run: {error.short}")
        return
    known = here.protocol(asked.id, outcome.cell.dataset)
    if known is None:
        yield Doubt("unknown here", f"protocol {asked.id!r} is not known here (--protocol FILE makes it known)")
    elif known != asked and known.digest != asked.digest:
        yield Doubt("unknown here", f"protocol {asked.id!r} is another here: {asked.digest[:12]}, {known.digest[:12]}")


def _samples(outcome: Outcome, here: KnownHere) -> Iterator[Doubt]:
    cell = outcome.cell
    try:
        data, expected = here.samples(cell.dataset, cell.limit)
    except UnavailableError:
        yield Doubt("not checked here", f"samples and labels: data set {cell.dataset!r} is not on this machine")
        if outcome.n < cell.limit:
            yield Doubt("incomplete", f"{outcome.n} samples at limit {cell.limit}, and no data here to say why")
        return
    if data.retrieval:
        yield Doubt("impossible", f"{cell.dataset!r} is a retrieval set")
        return
    if cell.dataset_digest != data.digest:
        yield Doubt("unknown here", f"data of another revision, {cell.dataset_digest[:12]}; here {data.digest[:12]}")
        return
    ids = [sample.id for sample in outcome.samples]
    if strange := [i for i in ids if i not in expected]:
        yield Doubt("impossible", f"{len(strange)} samples that limit {cell.limit} does not take, such as {strange[0]}")
    elif len(ids) < len(expected):
        yield Doubt("incomplete", f"{len(ids)} samples, where limit {cell.limit} takes {len(expected)}")
    elif ids != list(expected):
        yield Doubt("impossible", "samples in another order than a run takes them")
    if wrong := [s for s in outcome.samples if s.label != expected.get(s.id, s.label)]:
        first = wrong[0]
        told = f"such as {first.id}: {first.label}, not {expected[first.id]}"
        yield Doubt("impossible", f"{len(wrong)} labels that are not the data set's, {told}")
    if cell.prompts_digest != data.prompted(cell.protocol.evaluation.prompts).digest:
        yield Doubt("unknown here", f"other prompts, {cell.prompts_digest[:12]}")


def expected_draws(outcome: Outcome, *, randomised: bool) -> int:
    """Scoring draws that a run of the cell takes."""
    return outcome.cell.protocol.evaluation.scoring_draws if randomised else 1


def _draws(outcome: Outcome, here: KnownHere) -> Iterator[Doubt]:
    chosen = here.method(outcome.cell.method)
    if chosen is not None and outcome.draws != (due := expected_draws(outcome, randomised=chosen.card.randomised)):
        yield Doubt("impossible", f"{outcome.draws} scoring draws, where a run takes {due}")
    if chosen is not None:
        fresh = _confirming(outcome.cell.protocol, chosen.card.randomised)
        if outcome.confirming != fresh:
            yield Doubt(
                "impossible", f"{outcome.confirming} further draws of the attacked image, where a run takes {fresh}"
            )
    size = outcome.cell.batch_size
    if size is not None and size != outcome.provenance.batch_size:
        yield Doubt("impossible", f"batches of {outcome.provenance.batch_size}, and of {size} in its key")


@lru_cache(maxsize=4096)  # thousands of outcomes share a few protocols; what is judged runs no attack
def _built(protocol: Protocol) -> Attack | None:
    return build(protocol)


@lru_cache(maxsize=4096)
def _confirming(protocol: Protocol, randomised: bool) -> int:
    return confirming_draws(protocol, randomised=randomised)


def required_indicators(outcome: Outcome) -> set[str]:
    """Names of the indicators that a run of this protocol always writes."""
    protocol = outcome.cell.protocol
    attack, threat = _built(protocol), protocol.threat
    if attack is None:
        return set()
    names = {"out-of-ball", "robust-above-clean"}
    names |= {"unread-text"} if threat.modality == "text" else {"batch-dependent"}
    names |= {"unstable-prediction"} if outcome.draws > 1 else set()
    if threat.modality == "image" and isinstance(attack, (PGD, AutoPGD)):
        names |= {"zero-gradient", "nan-gradient"} | ({"loss-not-rising"} if threat.eps > 0 else set())
        through = threat.knowledge != "transfer" and threat.eps > 0
        names |= {"dead-gradient"} if through and attack.losses_compare else set()
    if threat.modality == "image" and is_checked(protocol, attack):
        names |= {"gradient-misleads"}
    if (
        threat.modality == "image"
        and threat.knowledge != "transfer"
        and getattr(attack, "gradient", "") not in NOT_REPLAYED
    ):
        names |= {"unstable-replay"}
    names |= {"not-converged"} if isinstance(attack, AdaptiveEnsemble) else set()
    names |= {"unstable-keys"} if outcome.draws > 1 else set()
    return names


def _indicators(outcome: Outcome, here: KnownHere) -> Iterator[Doubt]:
    if outcome.cell.protocol.attack.name not in {*attacks(), NO_ATTACK}:
        return
    found = {i.name: i for i in outcome.indicators}
    if removed := sorted(required_indicators(outcome) - found.keys()):
        yield Doubt("impossible", f"indicators that each run writes are missing: {', '.join(removed)}")
    for name, known in _definitions(_built(outcome.cell.protocol)).items():
        if (own := found.get(name)) is not None and own.threshold != known.threshold:
            yield Doubt("impossible", f"indicator {name} with threshold {own.threshold:g}, not {known.threshold:g}")
        elif own is not None and own.fired != _fires(own):
            yield Doubt("impossible", f"indicator {name}: {own.value:g} at threshold {own.threshold:g}, {own.fired=}")
    for name, value in _recomputed(outcome).items():
        if name in found and not math.isclose(found[name].value, value, abs_tol=1e-4):
            yield Doubt("impossible", f"indicator {name} says {found[name].value:g}, its samples {value:g}")


def _fires(indicator: Indicator) -> bool:
    below = indicator.name in ("dead-gradient", "gradient-misleads")
    return indicator.value < indicator.threshold if below else indicator.value > indicator.threshold


def _definitions(attack: Attack | None) -> dict[str, Indicator]:
    """Each indicator as a run of an attack defines it: its threshold, and what it says."""
    return {} if attack is None else _thresholds(attack.averaged_draws)


@cache
def _thresholds(averaged_draws: int) -> dict[str, Indicator]:
    one, yes = torch.ones(1), torch.ones(1).bool()
    made: list[Callable[[], Indicator]] = [
        lambda: indicators.zero_gradient(one), lambda: indicators.dead_gradient(one, one),
        lambda: indicators.nan_gradient(one), lambda: indicators.loss_not_rising(one, one, yes),
        lambda: indicators.silent_success(one, yes), lambda: indicators.out_of_ball(one),
        lambda: indicators.unstable_prediction(one[None].long(), eot=averaged_draws),
        lambda: indicators.batch_dependent(one), lambda: indicators.robust_above_clean(1.0, 1.0),
        lambda: indicators.unread_text(one), lambda: indicators.gradient_misleads(one, one),
        lambda: indicators.unstable_replay(one), lambda: indicators.unstable_keys(one, one),
        lambda: indicators.not_converged(one),
    ]  # fmt: skip
    return {indicator.name: indicator for indicator in (make() for make in made)}


def _recomputed(outcome: Outcome) -> dict[str, float]:
    """Indicators whose value follows from the samples on record."""
    changing = sum(0 < s.clean < outcome.draws for s in outcome.samples) / outcome.n
    gain = outcome.attacked_accuracy - outcome.clean_accuracy
    return {"robust-above-clean": gain} | ({"unstable-prediction": changing} if outcome.draws > 1 else {})


@cache
def _embedded() -> frozenset[str]:
    return frozenset(embedded())


def late(files: Mapping[str, str], *, outside: bool) -> Iterator[Doubt]:
    """What speaks against the files beside a cell's digests, of a method from outside or of this project."""
    if files and not outside:
        yield Doubt("impossible", f"{len(files)} files beside the digests of a method of this project")
    elif others := moved(files):
        yield Doubt("unknown here", f"made with other files than are here: {', '.join(others[:3])}")


def _code(outcome: Outcome, here: KnownHere) -> Iterator[Doubt]:
    cell = outcome.cell
    if (chosen := here.method(cell.method)) is None:
        yield Doubt("unknown here", f"method {cell.method!r} is not known here (--method FILE.py:CLASS makes it known)")
        return
    yield from late(outcome.provenance.files, outside=chosen.outside)
    if cell.protocol.attack.name not in {*attacks(), NO_ATTACK}:
        return
    if cell.backbone not in _embedded() and not cell.backbone.startswith(OPEN_CLIP):
        yield Doubt("unknown here", f"backbone {cell.backbone!r} is not known here")
    known = here.digests(cell.method, cell.backbone, cell.protocol)
    for name in differing(cell, known):
        yield Doubt("unknown here", f"made with another {DIGESTS[name]} than is here")
    if unknown := [words for name, words in DIGESTS.items() if name not in known]:
        yield Doubt("not checked here", f"{' and '.join(unknown)}")
