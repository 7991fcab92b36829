"""CLIP's loss (Radford et al. 2021, figure 3), for captions that several pictures of a batch may share."""

import torch
import torch.nn.functional as F
from torch import Tensor


def to_captions(logits: Tensor, index: Tensor) -> Tensor:
    """Half of the mean of CE(logits_i, index_i): each picture's caption among all of the batch.

    Args:
        logits: [n pictures, distinct captions], scaled cosines.
        index: [n], the caption of each picture.
    """
    return F.cross_entropy(logits, index) / 2


def to_pictures(logits: Tensor, index: Tensor) -> Tensor:
    """Half of the mean of -log softmax over the pictures, at each picture's own caption."""
    return -F.log_softmax(logits, 0)[torch.arange(len(index), device=index.device), index].mean() / 2
