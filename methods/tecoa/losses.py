"""The loss of TeCoA (Mao et al. 2023, section 3.2, equation 3)."""

import torch.nn.functional as F
from torch import Tensor


def text_guided(logits: Tensor, labels: Tensor) -> Tensor:
    """L = mean_i CE(scale * unit(v(x_i)) T^t, y_i): called contrastive, but over all classes' texts, in one direction.

    Args:
        logits: [B, K], scaled cosines of images and class texts.
        labels: [B].
    """
    return F.cross_entropy(logits, labels)
