"""The per-sample worst case over all attacks of one threat model, and who broke what."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Outcome

from .statistics import Estimate, mean_of

NEVER_BROKEN = "never broken"
WRONG_ANYWAY = "wrong without attack"
# Credit for a sample goes to the attacker who knows least.
KNOWLEDGE = ("none", "transfer", "black-box", "white-box", "adaptive")


@dataclass(frozen=True)
class WorstCase:
    """What is left when every sample meets the attack that hurts it most.

    Args:
        accuracy: mean over samples of the least success fraction.
        broken_by: protocol id -> samples for which it was the first to reach the minimum; besides
            `never broken` and `wrong without attack`. The counts add up to n.
    """

    accuracy: Estimate
    broken_by: dict[str, int]

    @property
    def breakers(self) -> list[tuple[str, int]]:
        """Protocols by the number of samples that they broke, most first."""
        attacks = [(p, c) for p, c in self.broken_by.items() if p not in (NEVER_BROKEN, WRONG_ANYWAY)]
        return sorted(attacks, key=lambda pair: (-pair[1], pair[0]))


def by_strength(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes in the order of attacker's knowledge, controls after attacks, then by protocol id."""

    def key(outcome: Outcome) -> tuple[int, bool, str, str]:
        protocol = outcome.cell.protocol
        control = protocol.attack.parameters.get("labels") == "pseudo" or protocol.attack.name == "noise"
        return KNOWLEDGE.index(protocol.threat.knowledge), control, protocol.id, outcome.key

    return sorted(outcomes, key=key)


def robust_fractions(outcome: Outcome) -> dict[str, float]:
    """Sample id -> fraction of the scoring draws that were right under attack."""
    draws = outcome.draws
    return {s.id: min(s.clean, s.attacked) / draws for s in outcome.samples}


def scored_fractions(outcome: Outcome) -> dict[str, float]:
    """Sample id -> what counts once the attack is chosen: of a randomised defence, on draws that chose nothing."""
    if not outcome.confirming:
        return robust_fractions(outcome)
    return {s.id: (s.fresh or 0) / outcome.confirming for s in outcome.samples}


def attacked_fractions(outcome: Outcome) -> dict[str, float]:
    """Sample id -> fraction of the scoring draws that were right on the attacked image, as papers count."""
    return {s.id: s.attacked / outcome.draws for s in outcome.samples}


def worst_fractions(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Sample id -> least robust fraction over outcomes of the same samples."""
    first, *others = map(robust_fractions, outcomes)
    return {i: min([left, *(other.get(i, left) for other in others)]) for i, left in first.items()}


def different_samples(outcomes: Sequence[Outcome]) -> str:
    """Says in words how the sample sets differ; empty where they are the same."""
    first, *others = outcomes
    ids = {s.id for s in first.samples}
    for other in others:
        theirs = {s.id for s in other.samples}
        if theirs != ids:
            return (
                f"{first.cell.protocol.id} has {len(ids)} samples and {other.cell.protocol.id} has {len(theirs)}, "
                f"{len(ids & theirs)} in common"
            )
    return ""


def worst_case(outcomes: Sequence[Outcome]) -> WorstCase:
    """Worst case per sample over outcomes of one method, data set and threat model.

    The attack of each sample is chosen by the scoring draws, and its share of right answers taken from others: the
    least of several noisy means is biased down. Where several do as well, the one that knows most counts.

    Raises:
        GauntletError: the outcomes have different samples; they are never intersected.
    """
    if not outcomes:
        raise GauntletError(
            "no outcomes", expected="one or more of the same threat model", where="worst_case()", fix="run an attack"
        )
    if difference := different_samples(outcomes):
        raise GauntletError(
            f"different samples: {difference}", expected="the same sample ids in every attack of a threat model",
            where=outcomes[0].cell.id, fix="run all protocols with the same --limit",
        )  # fmt: skip
    ordered = by_strength(outcomes)
    columns = [[found[s.id] for s in ordered[0].samples] for found in map(robust_fractions, ordered)]
    scored = [[found[s.id] for s in ordered[0].samples] for found in map(scored_fractions, ordered)]
    worst: list[float] = []
    breakers: Counter[str] = Counter()
    for position, sample in enumerate(ordered[0].samples):
        hits = [column[position] for column in columns]
        least = min(hits)
        chosen = max((i for i, hit in enumerate(hits) if hit == least), key=lambda i: (ordered[i].confirming > 0, i))
        worst.append(scored[chosen][position])
        if sample.clean == 0:
            breakers[WRONG_ANYWAY] += 1
        elif least >= sample.clean / ordered[0].draws:
            breakers[NEVER_BROKEN] += 1
        else:
            breakers[ordered[hits.index(least)].cell.protocol.id] += 1
    return WorstCase(mean_of(worst), dict(breakers))
