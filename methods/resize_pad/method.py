"""Randomization (Xie et al., ICLR 2018, arXiv 1711.01991): a random size, then a random place on a larger black canvas.

Of a picture of 299 pixels: a side r drawn from [299, 331), nearest neighbour; then zeros around it up to 331. Each draw
has a gradient, and it is the wrong one for the next draw: the attacker averages over draws (EOT).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence

SIDE, LOWEST, CANVAS = 299, {"paper": 299, "competition": 310}, 331
PASSES = 30  # of the competition's entry


class ResizePad(Defence):
    """Classifies a random placement of each image; the backbone then resizes the canvas to its own input."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The logarithm of the mean probability where there are several draws."""
        if self.deviations["entry"] == "paper":
            return self.backbone(self._placed(images), prompts)
        draws = [self.backbone(self._placed(images), prompts).log_softmax(-1) for _ in range(PASSES)]
        return torch.stack(draws).logsumexp(0)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Every draw is differentiable: its own surrogate, averaged by EOT."""
        return self.forward(images, prompts)

    def _placed(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> on canvases of 331/299 of their sides; each sample by its own draws."""
        competition = self.deviations["entry"] == "competition"
        share = LOWEST[self.deviations["entry"]] / SIDE
        drawn = self.draws.uniform(images.new_empty(len(images), 4), 0.0, 1.0).tolist()
        placed = []
        for image, (size, down, across, mirror) in zip(images, drawn, strict=True):
            rows, columns = (round(pixels * CANVAS / SIDE) for pixels in image.shape[-2:])
            lowest = (round(pixels * share) for pixels in image.shape[-2:])
            height, width = (
                least + int(size * (most - least)) for least, most in zip(lowest, (rows, columns), strict=True)
            )
            top, left = int(down * (rows - height + 1)), int(across * (columns - width + 1))
            resized = F.interpolate(image[None], size=(height, width), mode="nearest")
            resized = resized.flip(-1) if competition and mirror < 0.5 else resized
            placed.append(F.pad(resized, (left, columns - width - left, top, rows - height - top)))
        return torch.cat(placed)
