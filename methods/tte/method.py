"""TTE (Perez et al., ICCV workshops 2021): the mean of the logits over flips and shifted crops of the image.

Ten views: the image, its mirror image, four crops of the zero-padded image, and their mirror images.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence

CROPS = 4


class TTE(Defence):
    """Averages logits over fixed views.

    Args:
        padding: zeros on each side before a crop, as a fraction of the side; the code has 4 of 32 pixels.
        seed: of the crops' offsets, which are drawn once, when the defence is made, as in the code.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        padding: float = 1 / 8,
        seed: int = 0,
    ) -> None:
        super().__init__(backbone, deviations)
        self.padding = padding
        drawn = torch.rand(CROPS, 2, generator=torch.Generator().manual_seed(seed))
        self.offsets = tuple((float(i), float(j)) for i, j in drawn)  # fractions of the room that padding makes
        if self.deviations["crops"] == "late-binding":
            self.offsets = self.offsets[-1:] * CROPS

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        views = self.views(images)
        logits: Tensor = self.backbone(views.flatten(0, 1), prompts).view(*views.shape[:2], -1)
        return logits.mean(0)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and deterministic: the attacker needs nothing better than the ensemble itself."""
        return self.forward(images, prompts)

    def views(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> [10, B, 3, H, W]."""
        height, width = images.shape[-2:]
        pad_h, pad_w = round(self.padding * height), round(self.padding * width)
        padded = F.pad(images, (pad_w, pad_w, pad_h, pad_h))
        upright, mirrored = [images], [images.flip(-1)]
        for down, right in self.offsets:
            top, left = self._place(down, pad_h), self._place(right, pad_w)
            upright.append(padded[..., top : top + height, left : left + width])
            if self.deviations["mirror"] == "image":  # padding is alike on both sides: flipped after it or before
                mirrored.append(padded.flip(-1)[..., top : top + height, left : left + width])
            else:
                mirrored.append(upright[-1].flip(-1))
        return torch.stack(upright + mirrored)

    def _place(self, share: float, pad: int) -> int:
        """An offset as a whole place: 0..2 pad, each equally likely; in the code the last one is never drawn."""
        last = 2 * pad if self.deviations["offsets"] == "all" else max(2 * pad - 1, 0)
        return min(int(share * (last + 1)), last)  # min() keeps a share of 1.0 in the image
