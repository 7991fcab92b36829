"""JPEG (Guo et al., ICLR 2018, arXiv 1711.00117): written and read again at quality 75, then classified.

The classic of gradient masking: rounded coefficients have no gradient, so an attacker who asks for one finds zero and a
defence that looks robust. Whoever takes the Jacobian for the identity (`surrogate`) breaks it.
"""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..dbd.transforms import jpeg


class JPEG(Defence):
    """Classifies what libjpeg leaves of an image, at the size in which the image came.

    Args:
        quality: 1 to 100.
    """

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, quality: int = 75) -> None:
        super().__init__(backbone, deviations)
        self.quality = quality

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. A constant to autograd."""
        return self.backbone(self._compressed(images), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The identity through the file (BPDA)."""
        return self.backbone(identity_backward(self._compressed, images), prompts)

    def _compressed(self, images: Tensor) -> Tensor:
        return jpeg(images, self.quality)
