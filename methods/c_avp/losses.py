"""The losses of C-AVP (Chen et al. 2023, section 3): cross-entropy under the own prompt, and three margins."""

import torch
import torch.nn.functional as F
from torch import Tensor


def by_class(logits: Tensor, labels: Tensor) -> Tensor:
    """sum_j mean_{i: y_i = j} CE(z_i, j) over the classes that are there; logits [B, K] under each one's own prompt."""
    return summed_means(F.cross_entropy(logits, labels, reduction="none"), labels)


def margins(probabilities: Tensor, labels: Tensor, tau: float = 0.1) -> Tensor:
    """CW1 + CW2 + CW3, each summed over the classes j of means over its samples of max(., -tau).

    With P_k(x + p_j), the probability of class k under the prompt of class j:

    CW1, y = j: max_{k != j} P_k(x + p_k) - P_j(x + p_j): the rule of the answer prefers the own class;
    CW2, y != j: P_j(x + p_j) - max_{k != j} P_k(x + p_j): the prompt of another class does not draw to that class;
    CW3, y = j: max_{k != j} P_j(x + p_k) - P_j(x + p_j): the own prompt is the one under which the class is likeliest.

    Args:
        probabilities: [B, K prompts, K classes].
        labels: [B].
        tau: margin beyond which nothing is gained.
    """
    batch, classes, _ = probabilities.shape
    rows = torch.arange(batch, device=labels.device)
    diagonal = probabilities.diagonal(dim1=1, dim2=2)
    own = diagonal[rows, labels]
    others = F.one_hot(labels, classes).bool()
    answer = diagonal.masked_fill(others, -1).amax(1) - own
    prompt = probabilities[rows, :, labels].masked_fill(others, -1).amax(1) - own
    same = torch.eye(classes, dtype=torch.bool, device=labels.device)
    drawn = (diagonal - probabilities.masked_fill(same, -1).amax(2)).clamp_min(-tau)
    foreign = (~others).to(drawn)
    misled = ((drawn * foreign).sum(0) / foreign.sum(0).clamp_min(1)).sum()
    return summed_means((answer.clamp_min(-tau) + prompt.clamp_min(-tau)), labels) + misled


def summed_means(values: Tensor, labels: Tensor) -> Tensor:
    """Values [B] -> the sum over the classes that are there of their means; a class without samples adds nothing."""
    counts = torch.bincount(labels)
    return (values / counts[labels]).sum()
