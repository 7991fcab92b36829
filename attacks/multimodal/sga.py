"""Set-level Guidance Attack (Lu et al. 2023, arXiv:2307.14061): images at several scales leave all their sentences."""

from fractions import Fraction
from typing import ClassVar

import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from ..base import STRICT, AttackInfo, Number
from .ascent import PairAscent
from .paired import Paired


@dataclass(config=STRICT)
class SGA(PairAscent):
    """Minus the cosines with all attacked sentences of an image, summed over the image and its scaled copies.

    Args:
        scales: of the copies, beside the image itself.
        noise: standard deviation of the Gaussian noise that a copy gets before it is resized.
    """

    aims_text: ClassVar[bool] = True

    info = AttackInfo(
        "sga",
        "Images and their scaled copies driven away from all their attacked sentences, in the tower's features",
        "Lu et al. 2023, arXiv:2307.14061",
        ("linf",),
        "both",
    )

    scales: tuple[Number, ...] = (Fraction(1, 2), Fraction(3, 4), Fraction(5, 4), Fraction(3, 2))
    noise: Number = Fraction(1, 20)

    def guide(self, sentences: Tensor) -> Tensor:
        """See PairAscent. The sum of cosines is the cosine with the sum, up to its length."""
        return sentences.sum(0)

    def loss(self, victim: Paired, images: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """See PairAscent."""
        copies = [images, *(self._scaled(images, float(scale), draws) for scale in self.scales)]
        away = [self._away(victim, copy) for copy in copies]
        return sum(away[1:], start=away[0])

    def _away(self, victim: Paired, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> minus the cosines with their sentences, summed [B]."""
        return -(victim.features(images) * victim.guides).sum(1)

    def _scaled(self, images: Tensor, scale: float, draws: Draws) -> Tensor:
        """A noisy copy, resized (bicubic), clipped to [0,1] and resized back."""
        side, noisy = images.shape[-2:], images + float(self.noise) * draws.normal(images)
        size = [max(1, int(scale * length)) for length in side]
        resized = F.interpolate(noisy, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
        return F.interpolate(resized, size=side, mode="bicubic", align_corners=False)
