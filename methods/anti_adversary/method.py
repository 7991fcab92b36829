"""Anti-adversary (Alfarra et al., AAAI 2022): before the model answers, the image is moved to where it is surer.

y^ = argmax f(x); K times delta <- delta - alpha sign grad CE(f(x + delta), y^), from delta = 0; answer f(x + delta).
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at, soft_sign
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence

TUNED = {"tuned": 0.004}  # the other choices are numbers


class AntiAdversary(Defence):
    """Descends the cross-entropy of the model's own prediction.

    It declares no surrogate: the move confirms argmax f(x), which nearly always stays the answer. An attacker changes
    that first answer with the undefended gradient at x, the default; the gradient at x + delta does not see it.

    Args:
        steps: K.
        step_size: alpha, in [0,1] pixels or in the space that the deviation `space` names; default: what the
            deviation `step_size` names.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        steps: int = 2,
        step_size: float | None = None,
    ) -> None:
        super().__init__(backbone, deviations)
        chosen = self.deviations["step_size"]
        self.steps, self.step_size = steps, float(TUNED.get(chosen, chosen)) if step_size is None else step_size

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The move is made on detached images: to autograd it is a constant."""
        return self.backbone(images + (self.moved(images.detach(), prompts) - images.detach()), prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through both steps; the confirmed answer stays a constant."""
        return self.backbone(self.moved(images, prompts, unroll=True), prompts)

    def moved(self, images: Tensor, prompts: PromptSet, *, unroll: bool = False) -> Tensor:
        """Images [B, 3, H, W] -> x + delta."""
        moved, answer = images, None

        def doubt(inputs: Tensor) -> Tensor:
            nonlocal answer
            logits = self.backbone(inputs, prompts)
            answer = logits.detach().argmax(1) if answer is None else answer  # of x itself: the first pass
            return F.cross_entropy(logits, answer, reduction="sum")

        # A step of alpha in (x - mean) / std is one of alpha std in x: std > 0 leaves the gradient's sign.
        step = self.step_size * (self.backbone.std if self.deviations["space"] == "normalised" else 1)
        for _ in range(self.steps):
            gradient = gradient_at(doubt, moved, unroll=unroll)
            moved = moved - step * soft_sign(gradient)
            if self.deviations["clip"] == "box":
                moved = moved.clamp(0, 1)
        return moved
