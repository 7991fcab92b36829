"""Flags of a row: indicators that fired in one outcome, and those that only several outcomes together can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.fixtures.records import Outcome

from .statistics import sign_test
from .worst_case import attacked_fractions, robust_fractions, worst_fractions

# Red: the number beside them is no evidence of robustness, until an adaptive attack without them does as well.
MASKING = frozenset(
    {"dead-gradient", "zero-gradient", "robust-above-clean", "noise-suffices", "label-leak",
     "batch-dependent", "unbounded-attack-fails", "gradients-mislead", "no-adaptive-attack", "unread-text",
     "gradient-misleads", "unstable-replay", "unstable-keys", "nothing-climbs"}
)  # fmt: skip
# Red whatever else was run: they speak of the defence or of all attacks, not of one.
FINAL = frozenset(
    {"batch-dependent", "unbounded-attack-fails", "gradients-mislead", "no-adaptive-attack", "unstable-replay",
     "unstable-keys", "nothing-climbs"}
)  # fmt: skip
CHANCE = 0.05
UNBOUNDED = Fraction(1, 2)  # from here on every image can become a grey one: nothing may survive
NOISE = "noise"  # the attack that draws random starts and takes no gradient


@dataclass(frozen=True)
class Flag:
    """A reason to read a number with care."""

    name: str
    where: str
    meaning: str
    masking: bool = False


def indicator_flags(outcomes: Sequence[Outcome]) -> list[Flag]:
    """Every indicator that fired, with the protocol that it fired on. On transferred images they mask nothing."""
    return [
        Flag(
            indicator.name,
            outcome.cell.protocol.id,
            indicator.meaning,
            indicator.name in FINAL or (indicator.name in MASKING and level(outcome.cell.protocol) in ("T1", "T2")),
        )
        for outcome in outcomes
        for indicator in outcome.indicators
        if indicator.fired
    ]


def black_box_beats_white_box(black_box_attacks: Sequence[Outcome], white_box: Sequence[Outcome]) -> list[Flag]:
    """Fires where an attack without the defence's gradient breaks more samples than one with it (paired sign test).

    Args:
        black_box_attacks: transferred or black-box attacks; the flag is called after the knowledge.
        white_box: attacks through the defence as it is written.

    Source: Athalye et al. 2018, section 3.1: white-box attacks should be the stronger ones.
    """
    found = []
    seen = [(outcome, robust_fractions(outcome)) for outcome in white_box]
    for black_box, ours in ((outcome, robust_fractions(outcome)) for outcome in black_box_attacks):
        for seeing, theirs in seen:
            if ours.keys() == theirs.keys() and sign_test(list(ours.values()), [theirs[i] for i in ours]) < CHANCE:
                more = sum(ours[i] < theirs[i] for i in ours)
                meaning = f"it breaks {more} samples that {seeing.cell.protocol.id} leaves: the gradient misleads"
                found.append(
                    Flag(
                        f"{black_box.cell.protocol.threat.knowledge}-beats-white-box",
                        black_box.cell.protocol.id,
                        meaning,
                    )
                )
    return found


def gradients_mislead(black_box_attacks: Sequence[Outcome], gradient_attacks: Sequence[Outcome]) -> list[Flag]:
    """Fires where an attack without gradients breaks more than all attacks with gradients together (sign test)."""
    if not gradient_attacks:
        return []
    left = worst_fractions(gradient_attacks)
    found = []
    for black_box in black_box_attacks:
        ours = robust_fractions(black_box)
        if ours.keys() == left.keys() and sign_test(list(ours.values()), [left[i] for i in ours]) < CHANCE:
            more = sum(ours[i] < left[i] for i in ours)
            meaning = f"it breaks {more} samples that no attack with gradients breaks: none of those is strong enough"
            found.append(Flag("gradients-mislead", black_box.cell.protocol.id, meaning, masking=True))
    return found


def noise_suffices(noise: Sequence[Outcome], gradient_attacks: Sequence[Outcome]) -> list[Flag]:
    """Fires on an attack with gradients that breaks no more samples than the best of a few random starts does.

    Quiet where noise breaks nothing: a small budget may leave both with nothing to show.
    """
    found = []
    for control in noise:
        drawn = robust_fractions(control)
        broken = sum(s.clean for s in control.samples) / control.draws - sum(drawn.values())
        for attack in gradient_attacks:
            left = robust_fractions(attack)
            if broken > 0 and drawn.keys() == left.keys() and sum(left.values()) >= sum(drawn.values()):
                meaning = f"{control.cell.protocol.id} takes as many samples without any gradient"
                found.append(Flag("noise-suffices", attack.cell.protocol.id, meaning, masking=True))
    return found


def nothing_climbs(informed: Sequence[Outcome]) -> list[Flag]:
    """Fires where no attack with gradients that tells of its loss raises it on the samples that stand."""
    told = [{i.name: i.fired for i in o.indicators} for o in informed]
    climbs = [names["loss-not-rising"] for names in told if "loss-not-rising" in names]
    if not climbs or not all(climbs):
        return []
    meaning = f"none of {len(climbs)} attacks with gradients raises the loss of what stands"
    return [Flag("nothing-climbs", "this row", meaning, masking=True)]


def label_leak(transferred: Sequence[Outcome]) -> list[Flag]:
    """Fires where an attack away from the true label leaves more right answers than one away from the model's own.

    Then the direction of the attack tells the defence the label. Only protocols that differ in `labels` alone are
    compared, in the papers' count (attacked images right).
    """
    found = []
    for first, second in combinations(transferred, 2):
        truth, pseudo = sorted((first, second), key=aims_at_own_answer)
        if aims_at_own_answer(truth) == aims_at_own_answer(pseudo) or _twin(truth) != _twin(pseudo):
            continue
        with_truth, with_own = attacked_fractions(truth), attacked_fractions(pseudo)
        if with_truth.keys() == with_own.keys() and (
            sign_test(list(with_own.values()), [with_truth[i] for i in with_own]) < CHANCE
        ):
            meaning = (
                f"{truth.attacked_accuracy:.1%} are right, but {pseudo.attacked_accuracy:.1%} where the attacker aims "
                "away from the model's own answer: the true label leaks through the attack"
            )
            found.append(Flag("label-leak", truth.cell.protocol.id, meaning, masking=True))
    return found


def aims_at_own_answer(outcome: Outcome) -> bool:
    """Whether the attack goes away from the model's own answer instead of the truth."""
    return bool(outcome.cell.protocol.attack.parameters.get("labels") == "pseudo")


def _twin(outcome: Outcome) -> dict[str, object]:
    """A protocol without its names and labels."""
    return outcome.cell.protocol.model_dump(exclude={"id": True, "title": True, "attack": {"labels"}})


def unbounded_attack_fails(unbounded: Sequence[Outcome]) -> list[Flag]:
    """Fires where samples survive every attack of one unbounded threat model (3 %, or one sample, are forgiven)."""
    informed = [o for o in unbounded if level(o.cell.protocol) in ("T1", "T2")]
    if not informed:
        return []
    left = sum(worst_fractions(informed).values())
    if left <= max(1.0, 0.03 * informed[0].n):
        return []
    threat = informed[0].cell.protocol.threat
    meaning = f"{left:.3g} of {informed[0].n} samples survive at eps = {threat.eps}, where any image can become grey"
    return [Flag("unbounded-attack-fails", informed[0].cell.protocol.id, meaning, masking=True)]


def recipe(outcome: Outcome) -> str:
    """The protocol's id without its budget."""
    threat = outcome.cell.protocol.threat
    name: str = outcome.cell.protocol.id
    return name.removesuffix(f"-{threat.norm}-{str(threat.eps).replace('/', '-')}")


def more_budget_more_accuracy(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, Flag]]:
    """Fires on the larger budget of two where it leaves more samples right (paired sign test).

    Args:
        outcomes: one method, backbone, data set, norm, seed and recipe; budgets differ.

    Source: Athalye et al. 2018, section 3.1: more distortion must not hurt the attacker.
    """
    found = []
    ordered = [(o, robust_fractions(o)) for o in sorted(outcomes, key=lambda o: o.cell.protocol.threat.eps)]
    for (small, smaller_ball), (large, larger_ball) in combinations(ordered, 2):
        if (
            small.cell.protocol.threat.eps == large.cell.protocol.threat.eps
            or smaller_ball.keys() != larger_ball.keys()
        ):
            continue
        if sign_test(list(smaller_ball.values()), [larger_ball[i] for i in smaller_ball]) < CHANCE:
            meaning = (
                f"accuracy rises from {small.robust_accuracy:.1%} to {large.robust_accuracy:.1%} as eps grows "
                f"from {small.cell.protocol.threat.eps} to {large.cell.protocol.threat.eps}: the attack fails"
            )
            found.append((large, Flag("more-budget-more-accuracy", large.cell.protocol.id, meaning)))
    return found


def unanswered(flags: Sequence[Flag], adaptive: Sequence[Outcome], outcomes: Sequence[Outcome]) -> list[Flag]:
    """The red flags that no adaptive attack has answered.

    An answer is an adaptive outcome without a red flag of its own that leaves no more samples than the flagged one
    (paired sign test). Flags that speak of the defence as a whole (`FINAL`) have no answer.
    """
    red = {f.where for f in flags if f.masking}
    answers = [robust_fractions(o) for o in adaptive if o.cell.protocol.id not in red]
    by_id = {o.cell.protocol.id: robust_fractions(o) for o in outcomes}

    def answered(flag: Flag) -> bool:
        theirs = by_id.get(flag.where)
        return flag.name not in FINAL and theirs is not None and any(
            ours.keys() == theirs.keys() and sign_test(list(theirs.values()), [ours[i] for i in theirs]) >= CHANCE
            for ours in answers
        )  # fmt: skip

    return [f for f in flags if f.masking and not answered(f)]
