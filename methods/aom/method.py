"""AOM (Tong, Lai, Pan, Yin, CVPR 2025): one linear move of the feature, beyond an anchor of noisy copies."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class AOM(Defence):
    """f = (1 - alpha) f_start + alpha f_anchor; the anchor is the mean unit feature of n noisy copies.

    Args:
        copies: n.
        sigma: standard deviation of the Gaussian noise, in the space that the deviation `noise_space` names.
        alpha: length of the step; above 1 it goes beyond the anchor.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        copies: int = 5,
        sigma: float = 0.1,
        alpha: float = 1.5,
    ) -> None:
        super().__init__(backbone, deviations)
        self.copies, self.sigma, self.alpha = copies, sigma, alpha

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        start, anchor = self._ends(images)
        return self.backbone.classify(torch.lerp(start, anchor, self.alpha), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and differentiable as it is; EOT averages the draws."""
        return self.forward(images, prompts)

    def branch_logits(self, images: Tensor, prompts: PromptSet) -> Sequence[tuple[float, Tensor]]:
        """The two ends of the move; beyond alpha = 1 the start counts against its own class."""
        start, anchor = (self.backbone.classify(end, prompts) for end in self._ends(images))
        return (1 - self.alpha, start), (self.alpha, anchor)

    def _ends(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """f_start and f_anchor, each [B, D]."""
        start = F.normalize(self.backbone.encode_image(images), dim=-1)
        noise = self.draws.normal(images[:, None].expand(-1, self.copies, -1, -1, -1)) * self.sigma
        if self.deviations["noise_space"] == "normalised":
            noise = noise * self.backbone.std
        # The noisy copies are not clipped: the method perturbs the model's input, not a picture.
        noisy = (images[:, None] + noise).flatten(0, 1)
        anchor = F.normalize(self.backbone.encode_image(noisy), dim=-1).view(len(images), self.copies, -1).mean(1)
        if self.deviations["anchor"] == "renormalised":
            anchor = F.normalize(anchor, dim=-1)
        return start, anchor
