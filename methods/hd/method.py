"""HD, Hedge Defense (Wu et al. 2021, arXiv 2106.04938): the image is moved to where all classes are unlikely together.

delta <- U(-eps, eps); N times delta <- project(delta + alpha sign grad sum_c CE(f(x + delta), c)); answer f(x + delta).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward, straight_through
from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at, soft_sign
from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence

UNROLLED = 2  # last steps that an attacker differentiates through; all twenty would need twenty graphs in memory


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
        """The answer's value with the backbone's gradient at the random start, which an attacker averages over draws.

        Where the hedge ends, all classes are equally unlikely: the gradient there overrates the defence.
        """
        with torch.no_grad():
            value = self.forward(images, prompts)
        return straight_through(value, self.backbone(identity_backward(self._start, images), prompts))

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through the last steps, straight-through before them."""
        return self.backbone(self.hedged(images, prompts, unroll=UNROLLED), prompts)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The undefended answer at the random start: no inner step at all."""
        return self.backbone(identity_backward(self._start, images), prompts)

    def hedged(self, images: Tensor, prompts: PromptSet, *, unroll: int = 0) -> Tensor:
        """Images [B, 3, H, W] -> x + delta, inside the ball and [0,1]; the last `unroll` steps keep their graph."""
        moved = self._start(images)

        def hedge(inputs: Tensor) -> Tensor:
            return -torch.log_softmax(self.backbone(inputs, prompts), dim=1).sum()

        for step in range(self.steps):
            through = step >= self.steps - unroll
            if not through or step == self.steps - unroll:
                moved = straight_through(moved, images) if through else moved.detach()
            gradient = gradient_at(hedge, moved, unroll=through)
            moved = project(moved + self.step_size * soft_sign(gradient), images, norm="linf", eps=self.eps)
        return moved

    def _start(self, images: Tensor) -> Tensor:
        """A random point of the ball for each image; in [0,1], unless the code is followed."""
        start = images + self.draws.uniform(images, -self.eps, self.eps)
        return start if self.deviations["start"] == "free" else project(start, images, norm="linf", eps=self.eps)
