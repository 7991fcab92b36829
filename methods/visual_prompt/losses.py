"""The loss of visual prompting (Mao et al. 2023, equation 3, with the prompt in place of the weights)."""

import torch.nn.functional as F
from torch import Tensor


def text_guided(logits: Tensor, labels: Tensor) -> Tensor:
    """L = mean_i CE(scale * unit(v(x_i + d_i; P)) T^t, y_i) of logits [B, K] under the visual prompt P."""
    return F.cross_entropy(logits, labels)
