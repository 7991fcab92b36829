"""What FT-Adv. may train with beside FT-Clean's loss: labels without texts (TeCoA: standard adversarial training)."""

import torch.nn.functional as F
from torch import Tensor


def one_hot(features: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """L = mean_i CE(W phi(x_i), y_i) with a linear head that serves the training alone.

    Args:
        features: [B, D], not of unit length.
        head: [K, D], one row a class.
        labels: [B].
    """
    return F.cross_entropy(features @ head.T, labels)
