"""Anti-adversary (Alfarra et al., AAAI 2022): before the model answers, the image is moved to where it is surer.

y^ = argmax f(x); K times delta <- delta - alpha sign grad CE(f(x + delta), y^), from delta = 0; answer f(x + delta).
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class AntiAdversary(Defence):
    """Descends the cross-entropy of the model's own prediction.

    It declares no surrogate: the move confirms argmax f(x), which nearly always stays the answer. An attacker changes
    that first answer with the undefended gradient at x, the default; the gradient at x + delta does not see it.

    Args:
        steps: K.
        step_size: alpha in [0,1] pixels.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        steps: int = 2,
        step_size: float = 0.15,
    ) -> None:
        super().__init__(backbone, deviations)
        self.steps, self.step_size = steps, step_size

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The move is made on detached images: to autograd it is a constant."""
        return self.backbone(images + (self.moved(images.detach(), prompts) - images.detach()), prompts)

    def moved(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Images [B, 3, H, W] -> x + delta."""
        moved, answer = images, None
        for _ in range(self.steps):
            with torch.enable_grad():
                inputs = moved.detach().requires_grad_()
                logits = self.backbone(inputs, prompts)
                answer = logits.detach().argmax(1) if answer is None else answer  # of x itself: the first pass
                loss = F.cross_entropy(logits, answer, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, inputs)
            moved = moved - self.step_size * gradient.sign()
            if self.deviations["clip"] == "box":
                moved = moved.clamp(0, 1)
        return moved
