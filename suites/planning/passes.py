"""Image-encoder passes of a cell, counted before it runs: what its attack asks, what its scoring asks.

Text passes are left out: class weights are made once a cell. Methods that tune their prompts pay them for each image,
so that their hours come out too low until an outcome has told what they take.
"""

from dataclasses import dataclass

from vlm_gauntlet.attacks.adaptive.ensemble import REDIRECTS, WAYS
from vlm_gauntlet.attacks.base import Attack
from vlm_gauntlet.attacks.gradient_check import DIRECTIONS
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.card import Card, Cost
from vlm_gauntlet.methods.registry import Method, methods
from vlm_gauntlet.suites.batch import confirming_draws, is_checked
from vlm_gauntlet.suites.described import Described

from .questions import Setting, questions

REPLAYS = 4  # recorded calls asked again: the last, two that nobody foretells, and one in other company
BARE = Cost(forward=1, backward=1)


@dataclass(frozen=True)
class Passes:
    """Passes for one image; an upper bound where they were counted on paper, a mean where outcomes told them."""

    forward: float
    backward: float

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def times(self, factor: float) -> "Passes":
        """So many of them."""
        return Passes(self.forward * factor, self.backward * factor)


def passes(method: Method | Described, protocol: Protocol, *, classes: int, backbone: str) -> Passes | None:
    """Passes for one image that no attack breaks; None where method or attack do not tell what they take.

    Args:
        method: the defence.
        protocol: what attacks it.
        classes: of the data set.
        backbone: how many tuned towers there are to transfer from depends on it.
    """
    card, attack = _card(method), build(protocol)
    if card.cost is None or (gradient := card.attack_cost) is None:
        return None
    transferred = protocol.threat.knowledge == "transfer"
    target = BARE if transferred else gradient
    asked = questions(attack, _setting(method, classes, backbone, randomised=card.randomised and not transferred))
    if asked is None:
        return None
    answer = Passes(1, 0) if transferred else _of(card.cost)
    own = _of(target).times(asked.gradients) + answer.times(asked.answers) + _of(BARE).times(asked.towers)
    return own + _checks(protocol, attack, card) + _scoring(protocol, attack, card)


def _card(method: Method | Described) -> Card:
    """The card; of a defence on a tuned tower that of the defence, since another tower takes as many passes."""
    base = methods().get(method.name.partition("@")[0].partition("+")[0])
    if method.card.attack_cost is not None or "@" not in method.name or base is None:
        return method.card
    return method.card.model_copy(update={"cost": base.card.cost, "attack_cost": base.card.attack_cost})


def _setting(method: Method | Described, classes: int, backbone: str, *, randomised: bool) -> Setting:
    tuned = sum(kind.offers("tuned_backbone") and backbone in kind.card.weights for kind in methods().values())
    return Setting(
        classes=classes, randomised=randomised, sources=1 + tuned,
        ways=sum(method.offers(way) for way in WAYS), redirects=sum(method.offers(part) for part in REDIRECTS),
    )  # fmt: skip


def _checks(protocol: Protocol, attack: Attack | None, card: Card) -> Passes:
    """Whether the gradient predicts the loss, at clean and attacked images; and the undefended model's gradient."""
    total = Passes(0, 0)
    if attack is None or protocol.threat.knowledge == "transfer" or protocol.threat.harmless:
        return total
    if attack.losses_compare:
        total += _of(BARE)
    if is_checked(protocol, attack) and card.cost and card.attack_cost:
        total += _of(card.attack_cost).times(2) + _of(card.cost).times(4 * DIRECTIONS)
    return total


def _scoring(protocol: Protocol, attack: Attack | None, card: Card) -> Passes:
    """Clean and attacked image in every draw, and what is asked again."""
    draws = protocol.evaluation.scoring_draws if card.randomised else 1
    looks = draws
    if attack is not None:
        looks += draws + confirming_draws(protocol, randomised=card.randomised) + REPLAYS + 1
        looks += draws if card.randomised else 0  # of the first few of a batch, on streams that nobody foretells
    return _of(card.cost or BARE).times(looks)


def _of(cost: Cost) -> Passes:
    return Passes(cost.forward, cost.backward)
