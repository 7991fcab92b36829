"""A diffusion prior over image embeddings: noising, the network's interface, the denoising loss (Ramesh et al. 2022).

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, where x_0 = sqrt(D) z for a unit embedding z; the network predicts x_0.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .losses import denoising

TIMESTEPS = 1000


@dataclass(frozen=True)
class Condition:
    """What the network is told of the image beside its noised embedding.

    Args:
        text: text embeddings [B, D]; rows that are not kept are replaced by the learned null text.
        keep_text, keep_image: bool [B]; an image that is not kept is replaced by the learned null image.
        words: encodings [L, D] of a text's words, the same for all rows, for a prior that reads them; a word of zeros,
            or of a text that is not kept, is replaced by the learned null word of its place. None: no words.
    """

    text: Tensor
    keep_text: Tensor
    keep_image: Tensor
    words: Tensor | None = None

    @classmethod
    def null(cls, features: Tensor) -> "Condition":
        """No text for any of the features [B, D]; every noised embedding is seen."""
        nobody = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        return cls(torch.zeros_like(features), nobody, ~nobody)


def cosine_alpha_bar(timesteps: int = TIMESTEPS, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """abar [T]: the cosine schedule of Nichol and Dhariwal (2021, equation 17), with beta clipped at `most`."""
    angle = (torch.arange(timesteps + 1, dtype=torch.float64) / timesteps + offset) / (1 + offset) * math.pi / 2
    level = angle.cos().square()
    beta = (1 - level[1:] / level[:-1]).clamp(max=most)
    return (1 - beta).cumprod(0)


ALPHA_BAR = cosine_alpha_bar()


class Prior(nn.Module, ABC):
    """A network that predicts the scaled embedding from its noised form.

    Args:
        dim: D, width of the embeddings.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, noised: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Noised scaled embeddings [B, D] at timesteps [B] in 0..999 -> prediction of the scaled embeddings [B, D]."""

    def noised(self, scaled: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """x_t [B, D] of scaled embeddings [B, D] and standard normal noise [B, D]."""
        level = ALPHA_BAR.to(scaled)[timesteps][:, None]
        return level.sqrt() * scaled + (1 - level).sqrt() * noise

    def loss(self, features: Tensor, timesteps: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        """Squared error [B] of the prediction, averaged over D, for unit features [B, D]."""
        scaled = math.sqrt(self.dim) * features
        return denoising(self(self.noised(scaled, timesteps, noise), timesteps, condition), scaled)
