"""The loss of FT-Clean and FT-Adv. (FT.py of Yu et al. 2024): pictures against the class texts of their own batch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def in_batch(logits: Tensor, labels: Tensor) -> Tensor:
    """L = (mean_i CE(P_i., i) + mean_i CE(P_.i, i)) / 2 with P_ij = scale * cos(v(x_i), t(y_j)), i and j in the batch.

    Where a label comes m times, m columns are equal and compete: CE(P_i., i) is at least ln m, and the loss not 0.

    Args:
        logits: [B, K], scaled cosines of images and class texts.
        labels: [B].
    """
    pairs, own = logits[:, labels], torch.arange(len(labels), device=logits.device)
    return (F.cross_entropy(pairs, own) + F.cross_entropy(pairs.T, own)) / 2
