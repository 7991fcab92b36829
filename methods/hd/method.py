"""HD, Hedge Defense (Wu et al. 2021, arXiv 2106.04938): the image is moved to where all classes are unlikely together.

delta <- U(-eps, eps); N times delta <- project(delta + alpha sign grad sum_c CE(f(x + delta), c)); answer f(x + delta).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class HedgeDefense(Defence):
    """Ascends the cross-entropy summed over all classes.

    Args:
        eps, step_size: budget and step in [0,1] pixels.
        steps: N.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        eps: float = 8 / 255,
        steps: int = 20,
        step_size: float = 4 / 255,
    ) -> None:
        super().__init__(backbone, deviations)
        self.eps, self.steps, self.step_size = eps, steps, step_size

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The move is made on detached images: to autograd it is a constant."""
        return self.backbone(images + (self.hedged(images.detach(), prompts) - images.detach()), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Straight-through on x + delta(x): sign steps are piecewise constant in x."""
        return self.backbone(identity_backward(lambda x: self.hedged(x, prompts), images), prompts)

    def hedged(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Images [B, 3, H, W] -> x + delta, inside the ball and [0,1]."""
        start = images + self.draws.uniform(images, -self.eps, self.eps)
        moved = project(start, images, norm="linf", eps=self.eps)
        for _ in range(self.steps):
            with torch.enable_grad():
                inputs = moved.detach().requires_grad_()
                loss = -torch.log_softmax(self.backbone(inputs, prompts), dim=1).sum()
            (gradient,) = torch.autograd.grad(loss, inputs)
            moved = project(moved + self.step_size * gradient.sign(), images, norm="linf", eps=self.eps)
        return moved
