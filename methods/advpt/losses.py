"""The two losses of AdvPT (Zhang et al. 2024): what makes the bank, and what is learned on it."""

import torch.nn.functional as F
from torch import Tensor


def embedding_divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """D [B] = KL(softmax(v(x)) || softmax(v(x + d))) over the embedding's dimensions, not over classes.

    Args:
        clean, attacked: embeddings [B, D] as the tower gives them, not of unit length.
    """
    return F.kl_div(attacked.log_softmax(-1), clean.softmax(-1), reduction="none").sum(-1)


def on_bank(logits: Tensor, labels: Tensor) -> Tensor:
    """L = mean_i CE(scale * unit(v(x_i + d_i)) unit(t(V))^T, y_i) of logits [B, K]; v(x_i + d_i) never changes."""
    return F.cross_entropy(logits, labels)
