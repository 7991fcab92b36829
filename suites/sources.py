"""Models that images are transferred from: the undefended backbone, every tuned one on it, the defence's own parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method, method, methods

TWO = PromptSet.from_templates(["a", "b"], ["{c}"])  # any classes: what is mixed does not depend on them


class Branch(Defence):
    """One of the answers that a defence mixes, as a model of its own.

    Args:
        whole: the defence.
        place: which answer.
    """

    def __init__(self, whole: Defence, place: int) -> None:
        super().__init__(whole.backbone)
        self.whole, self.place = whole, place

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        logits: Tensor = self.whole.branch_logits_on(images, prompts, self.draws)[self.place][1]
        return logits


@cache
def tuned_methods() -> tuple[Method, ...]:
    """The registered methods that bring a tuned backbone."""
    return tuple(method(name) for name, kind in sorted(methods().items()) if kind.offers("tuned_backbone"))


def sources(defence: Defence, backbone: Backbone) -> dict[str, Defence]:
    """The sources by name, each model once.

    Args:
        defence: whom the images are for.
        backbone: what everything stands on.
    """
    found = dict(_on(backbone))
    own = {"own backbone": defence.backbone}
    if defence.offers("tuned_backbone"):
        own = {"own tower": defence.tuned_backbone, **own}
    for name, tower in own.items():
        _add(found, name, tower)
    branches = {f"branch {i}": Branch(defence, i) for i in range(_branches(defence))}
    return {name: source.defence for name, source in found.items()} | branches


@dataclass(frozen=True)
class _Source:
    defence: Defence
    features: Tensor


@lru_cache(maxsize=1)  # the cells of a run stand on one backbone; another copy of it is another key
def _on(backbone: Backbone) -> dict[str, _Source]:
    """The backbone itself and every tuned one on it, by the method that tuned it, each model once."""
    found: dict[str, _Source] = {}
    _add(found, "undefended", backbone)
    for tuned in tuned_methods():
        try:
            _add(found, tuned.name, tuned.build(backbone).tuned_backbone)
        except UnavailableError:  # nobody trained it on this backbone
            continue
    return found


def _add(found: dict[str, _Source], name: str, tower: Backbone) -> None:
    features = _features(tower)
    if not any(torch.equal(features, other.features) for other in found.values()):
        found[name] = _Source(method("undefended").build(tower), features)


def _features(tower: Backbone) -> Tensor:
    """What a tower says of one picture: equal for equal weights."""
    picture = torch.linspace(0, 1, 3 * tower.image_size**2).view(1, 3, tower.image_size, tower.image_size)
    passes = tower.passes
    with torch.no_grad():
        features = tower.encode_image(picture.to(tower.device))
    passes.forward -= 1
    return features


def _branches(defence: Defence) -> int:
    """How many answers the defence mixes."""
    if not defence.offers("branch_logits"):
        return 0
    size = defence.backbone.image_size
    grey = torch.full((1, 3, size, size), 0.5, device=defence.backbone.device)
    try:
        with torch.no_grad():
            answers: Sequence[object] = defence.branch_logits_on(grey, TWO, Draws((0,)))
    except GauntletError:  # a deviation may leave one answer
        return 0
    return len(answers)
