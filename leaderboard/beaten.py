"""Who beats a row, at what budget, and whether more of it would take more."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_gauntlet.attacks.gradients import GradientAttack
from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.attacks.registry import attacks, build, parameters
from vlm_gauntlet.fixtures.records import Outcome

from .comparison import MARGIN
from .flags import recipe
from .statistics import Estimate, mean_of
from .worst_case import KNOWLEDGE, scored_fractions

WATCHED = "not-converged"  # the indicator of attacks that watch their own budget
FACTORS = {"steps": "step", "rounds": "doubling round", "restarts": "restart", "eot": "draw"}


@dataclass(frozen=True)
class Beaten:
    """The attack that alone leaves least of a row; of several that leave as little the cheapest.

    Args:
        outcome: of that attack.
        accuracy: what it leaves; of a randomised defence on draws that chose nothing.
    """

    outcome: Outcome
    accuracy: Estimate

    @property
    def protocol(self) -> str:
        """Id of its protocol."""
        name: str = self.outcome.cell.protocol.id
        return name

    @property
    def attacker(self) -> str:
        """The same without its eps, which the row's table says."""
        return recipe(self.outcome)

    @property
    def knowledge(self) -> str:
        """What the attacker knows."""
        known: str = self.outcome.cell.protocol.threat.knowledge
        return known

    @property
    def budget(self) -> str:
        """`20 steps × 4 draws`, `20 steps + 500 queries`: as its protocol asks; empty for none of these."""
        asked = parameters(self.outcome.cell.protocol.attack)
        found = [(asked.get(name), word) for name, word in FACTORS.items()]
        factors = [
            f"{count} {word}{'' if count == 1 else 's'}"
            for count, word in found
            if isinstance(count, int) and (count > 1 or word == "step") and (word != "draw" or self.outcome.draws > 1)
        ]
        queries = [f"{count} queries"] if (count := asked.get("queries")) else []
        return " + ".join([*filter(None, [" × ".join(factors)]), *queries])

    @property
    def passes(self) -> float:
        """Image-encoder passes, forward and backward, that it took for one sample."""
        return passes_of(self.outcome)


@dataclass(frozen=True)
class Convergence:
    """Whether twice the budget would break more, as far as an attack that watches its own budget tells.

    Args:
        protocol: id of that attack; empty where nothing is left to take.
        open: share of the row's samples that it might still take.
        n: samples of the row.
    """

    protocol: str
    open: float
    n: int

    @property
    def reached(self) -> bool:
        """Whether what is open is at most one sample, or no more than what is still the same result."""
        return self.open <= max(MARGIN, 1 / self.n)

    @property
    def problem(self) -> str:
        """What keeps the row from ranking, in words; empty where it converged."""
        told = f"the budget of {self.protocol} had not converged: up to {100 * self.open:.1f} points more may fall"
        return "" if self.reached else told


def passes_of(outcome: Outcome) -> float:
    """Image-encoder passes, forward and backward, of an attack for one sample."""
    passes: float = (outcome.attack_cost.forward + outcome.attack_cost.backward) / outcome.n
    return passes


def beaten(attacked: Sequence[Outcome]) -> Beaten | None:
    """Who beats a row; None where nobody takes a sample.

    Args:
        attacked: outcomes of attacks on one row, of the same samples.
    """
    if not attacked:
        return None
    first = min(attacked, key=lambda o: (_left(o), passes_of(o), o.cell.protocol.id))
    if _left(first) >= sum(s.clean for s in first.samples) / first.draws:
        return None
    return Beaten(first, mean_of([*scored_fractions(first).values()]))


def _left(outcome: Outcome) -> float:
    """Samples, in draws that the attack was scored on."""
    right: int = sum(sample.robust for sample in outcome.samples)
    return right / outcome.draws


def convergence(outcomes: Sequence[Outcome], left: float) -> Convergence | None:
    """What the strongest watching attack of a row says; None where none watches: convergence was not tested.

    The strongest is who knows most, then who may take most steps and draws. What no attack leaves cannot be open.

    Args:
        outcomes: of one row. Attacks from outside tell nothing: nobody here vouches for them.
        left: worst case of the row.
    """
    if left <= 0:
        return Convergence("", 0.0, outcomes[0].n)
    told = [
        (KNOWLEDGE.index(asked.threat.knowledge), attack.total_steps * attack.averaged_draws, asked.id, indicator.value)
        for outcome in outcomes
        for indicator in outcome.indicators
        if indicator.name == WATCHED and (asked := outcome.cell.protocol).attack.name in attacks()
        and level(asked) in ("T1", "T2") and isinstance(attack := build(asked), GradientAttack)
    ]  # fmt: skip
    if not told:
        return None
    *_, protocol, value = max(told)
    return Convergence(protocol, min(value, left), outcomes[0].n)
