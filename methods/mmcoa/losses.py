"""The loss of MMCoA (Zhou et al. 2024, equations 7 to 9)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, *, symmetric: bool = False) -> Tensor:
    """L(I, T) = -1/B sum_ij y_ij log softmax_j(scale I_i T_j), y_ij = 1 where i = j: each image finds its own text.

    Texts that stand twice in a batch compete, so that the least value is the mean logarithm of how often each stands.

    Args:
        images, texts: unit features [B, D]; row i of both is a pair.
        scale: scalar factor on the cosines.
        symmetric: each text finds its image too, and the two are added (the code; the paper has one direction).
    """
    logits, own = scale * images @ texts.T, torch.arange(len(images), device=images.device)
    to_texts = F.cross_entropy(logits, own)
    return to_texts + F.cross_entropy(logits.T, own) if symmetric else to_texts
