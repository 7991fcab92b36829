"""Bit-depth reduction (Xu et al., NDSS 2018, arXiv 1704.01155): each value at the nearest of 2^b levels.

x' = round(x (2^b - 1)) / (2^b - 1). A staircase: its gradient is zero wherever it exists, so that an attacker who asks
for it finds nothing. Whoever takes the Jacobian for the identity (`surrogate`) breaks it.
"""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class BitDepth(Defence):
    """Classifies the image with few levels, at the size in which it came.

    Args:
        bits: b, of each colour of a pixel.
    """

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, bits: int = 3) -> None:
        super().__init__(backbone, deviations)
        self.highest = 2**bits - (self.deviations["levels"] == "xu")

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. To autograd the rounding has gradient zero."""
        return self.backbone(self._squeezed(images), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The identity through the rounding (BPDA)."""
        return self.backbone(identity_backward(self._squeezed, images), prompts)

    def _squeezed(self, images: Tensor) -> Tensor:
        rounded: Tensor = (images * self.highest).round() / self.highest
        return rounded
