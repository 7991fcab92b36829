"""ET3 (Mirza et al., CVPR 2026, arXiv 2603.26984): the image moves to where the model's energy is lower.

E(x) = -log sum_k exp(logit_k(x)); T times x <- x - alpha grad E / |grad E|_2, inside a ball around the image and in the
box; then the model answers. Made for robust encoders (`@tecoa`), whose energy is lower at images that look like their
class.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at
from vlm_gauntlet.attacks.balls import lp_norm, per_sample, project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence

PIXELS = 224  # side of the pictures that the paper's lengths hold for


class ET3(Defence):
    """Descends the energy for a few normalised steps.

    Args:
        step_size: alpha, the Euclidean length of a step, for a picture of 224 pixels; others in proportion to the side.
        steps: T.
        radius: of the ball, for a picture of 224 pixels, in the norm of the deviation `ball`; default: what the
            deviations `ball` and `radius` name.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        step_size: float = 2.5,
        steps: int = 2,
        radius: float | None = None,
    ) -> None:
        super().__init__(backbone, deviations)
        self.step_size, self.steps = step_size, steps
        self.norm = self.deviations["ball"]
        chosen = float(self.deviations["radius"])
        self.radius = (chosen if self.norm == "l2" else chosen / 255) if radius is None else radius

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The move is made on detached images: to autograd it is a constant."""
        return self.backbone(images + (self.moved(images.detach(), prompts) - images.detach()), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Straight-through on the moved image, as the authors' own adaptive wrapper."""
        return self.backbone(identity_backward(lambda x: self.moved(x, prompts), images), prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through the T steps, with second-order gradients."""
        return self.backbone(self.moved(images, prompts, unroll=True), prompts)

    def energy(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Images [B, 3, H, W] -> E [B]."""
        return -torch.logsumexp(self.backbone(images, prompts), dim=1)

    def moved(self, images: Tensor, prompts: PromptSet, *, unroll: bool = False) -> Tensor:
        """Images [B, 3, H, W] -> the images of lower energy, inside ball and box."""
        # A Euclidean length grows with the side where every pixel moves as far; an L-inf one does not.
        scale = (images.shape[-2] * images.shape[-1]) ** 0.5 / PIXELS
        radius = self.radius * (scale if self.norm == "l2" else 1)
        moved = images
        for _ in range(self.steps):
            gradient = gradient_at(lambda x: self.energy(x, prompts).sum(), moved, unroll=unroll)
            length = lp_norm(gradient, "l2").clamp_min(1e-12)
            step = self.step_size * scale * gradient / per_sample(length, gradient)
            moved = project((moved - step).clamp(0, 1), images, norm=self.norm, eps=radius)
        return moved
