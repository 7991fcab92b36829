"""The attacks on pairs by name, with the constants of their papers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vlm_gauntlet.fixtures.errors import unknown_name

from .ascent import PairAscent
from .co_attack import CoAttack
from .dra import DRA
from .sga import SGA


@dataclass(frozen=True)
class PairRecipe:
    """One attack on images and their captions.

    Args:
        title: what it does.
        source: the paper.
        make: eps -> the image step, L-inf.
    """

    title: str
    source: str
    make: Callable[[float], PairAscent]


RECIPES: Mapping[str, PairRecipe] = {
    "sep": PairRecipe(
        "each side away from what it was, neither sees the other",
        "the baseline of Zhang et al. 2022, arXiv:2206.09391",
        lambda eps: CoAttack("linf", eps, alpha=0.0),
    ),
    "co-attack": PairRecipe(
        "text first, then the image away from itself and from its attacked caption (the last one)",
        "Zhang et al. 2022, arXiv:2206.09391",
        lambda eps: CoAttack("linf", eps),
    ),
    "sga": PairRecipe(
        "text away from the image, the image at five scales away from all its captions, text again",
        "Lu et al. 2023, arXiv:2307.14061",
        lambda eps: SGA("linf", eps),
    ),
    "dra": PairRecipe(
        "SGA, its gradients from between the clean and the last two images, its text away from a mean of the three",
        "Gao et al., ECCV 2024",
        lambda eps: DRA("linf", eps),
    ),
}


def recipe(name: str) -> PairRecipe:
    """The attack on pairs with this name, or an error with near misses."""
    if name not in RECIPES:
        raise unknown_name("attack on pairs", name, RECIPES, "--attack")
    return RECIPES[name]
