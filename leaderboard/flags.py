"""Flags of a row: indicators that fired in one outcome, and those that only several outcomes together can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from vlm_gauntlet.fixtures.records import Outcome

from .statistics import sign_test
from .worst_case import robust_fractions

# Fired on a white-box outcome, these mean that the gradient told the attacker nothing.
MASKING = frozenset({"dead-gradient", "zero-gradient", "robust-above-clean"})
CHANCE = 0.05


@dataclass(frozen=True)
class Flag:
    """A reason to read a number with care."""

    name: str
    where: str
    meaning: str
    masking: bool = False


def indicator_flags(outcomes: Sequence[Outcome]) -> list[Flag]:
    """Every indicator that fired, with the protocol that it fired on."""
    return [
        Flag(
            indicator.name,
            outcome.cell.protocol.id,
            indicator.meaning,
            indicator.name in MASKING and outcome.cell.protocol.threat.knowledge == "white-box",
        )
        for outcome in outcomes
        for indicator in outcome.indicators
        if indicator.fired
    ]


def blind_beats_white_box(blind_attacks: Sequence[Outcome], white_box: Sequence[Outcome]) -> list[Flag]:
    """Fires where an attack without the defence's gradient breaks more samples than one with it (paired sign test).

    Args:
        blind_attacks: transferred or black-box attacks; the flag is called after the knowledge.
        white_box: attacks through the defence as it is written.

    Source: Athalye et al. 2018, section 3.1: white-box attacks should be the stronger ones.
    """
    found = []
    seen = [(outcome, robust_fractions(outcome)) for outcome in white_box]
    for blind, ours in ((outcome, robust_fractions(outcome)) for outcome in blind_attacks):
        for seeing, theirs in seen:
            if ours.keys() == theirs.keys() and sign_test(list(ours.values()), [theirs[i] for i in ours]) < CHANCE:
                more = sum(ours[i] < theirs[i] for i in ours)
                meaning = f"it breaks {more} samples that {seeing.cell.protocol.id} leaves: the gradient misleads"
                found.append(
                    Flag(f"{blind.cell.protocol.threat.knowledge}-beats-white-box", blind.cell.protocol.id, meaning)
                )
    return found


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
    for (small, before), (large, after) in combinations(ordered, 2):
        if small.cell.protocol.threat.eps == large.cell.protocol.threat.eps or before.keys() != after.keys():
            continue
        if sign_test(list(before.values()), [after[i] for i in before]) < CHANCE:
            meaning = (
                f"accuracy rises from {small.robust_accuracy:.1%} to {large.robust_accuracy:.1%} as eps grows "
                f"from {small.cell.protocol.threat.eps} to {large.cell.protocol.threat.eps}: the attack fails"
            )
            found.append((large, Flag("more-budget-more-accuracy", large.cell.protocol.id, meaning)))
    return found
