"""What hides behind a dummy: a model whose robustness is known, since nothing stands before it."""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method


class OnTeCoA(Defence):
    """A trick before TeCoA: what strong attacks leave of TeCoA is what it is worth.

    Where the trick itself takes something from an attacker, `behind` is the same function with a gradient to attack.
    """

    inner = "tecoa"
    behind = ""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.model = method(self.inner).build(backbone)


class OnUndefended(OnTeCoA):
    """A trick before nothing: worth nothing."""

    inner = "undefended"


class Coarse(Defence):
    """Three bits a channel before the undefended model; straight through the rounding, at the image that it makes."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(with_gradient((images * 7).round() / 7, images), prompts)

    surrogate = forward


def with_gradient(value: Tensor, gradient: Tensor) -> Tensor:
    """One tensor's value, another one's gradient."""
    return value.detach() + gradient - gradient.detach()


def boosted(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [B, K] that say `labels` [B], where these are classes."""
    known = (labels >= 0) & (labels < logits.shape[1])
    chosen = torch.nn.functional.one_hot(labels.clamp(0, logits.shape[1] - 1), logits.shape[1])
    return logits + 50.0 * chosen * known[:, None]
