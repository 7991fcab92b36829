"""RN: uniform noise before classification, the weakest baseline of TTC's paper (its code with N = 0)."""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class RandomNoise(Defence):
    """Classifies x + u, u ~ U(-eps, eps) per pixel, kept inside [0,1].

    Args:
        eps: half width of the noise in [0,1] pixels.
    """

    def __init__(
        self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, eps: float = 4 / 255
    ) -> None:
        super().__init__(backbone, deviations)
        self.eps = eps

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        # The clip is outside the graph: inside, it would kill the gradient of every pixel that it touches.
        noise = (images + self.draws.uniform(images, -self.eps, self.eps)).clamp(0, 1).detach() - images.detach()
        return self.backbone(images + noise, prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The noise does not depend on the image: the model is its own surrogate, averaged by EOT."""
        return self.forward(images, prompts)
