"""TIMA's three observations (Ma et al. 2026), as numbers that any CLIP and any attack give: pure functions of tensors.

1. Logit margins under a small and a large perturbation differ by a stable offset: `margin_offset`.
2. Margins are smaller between classes whose texts are more similar: `margin_by_similarity`.
3. Moving the texts (LAAT's expansion) breaks their meaning: `semantic_consistency`.
"""

from typing import NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor

from ..laat.topology import neighbours_kept, rank_correlation
from .losses import kept_predictions


class Offset(NamedTuple):
    """Margins under the small perturbation minus those under the large one, over the images.

    Args:
        mean: in logits.
        spread: standard deviation; a stable offset has one that is small against the mean.
        correlation: Spearman's, of the two margins; 1 where the larger perturbation keeps their order.
    """

    mean: float
    spread: float
    correlation: float


class Consistency(NamedTuple):
    """What moving the texts does to the predictions of clean images, and to the texts among each other.

    Args:
        divergence: mean KL of the predictions before, from those after; 0 where nothing changes.
        agreement: share of images with the same first class.
        neighbours: share of classes whose nearest class is the same.
        ranks: Spearman's, of the similarities of all pairs of classes.
    """

    divergence: float
    agreement: float
    neighbours: float
    ranks: float


def logit_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest other one: [N, K] and [N] -> [N]."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def margin_offset(small: Tensor, large: Tensor, labels: Tensor) -> Offset:
    """Observation 1: logits [N, K] of the same images under a small and a large perturbation."""
    first, second = logit_margins(small, labels).double(), logit_margins(large, labels).double()
    offset = first - second
    return Offset(offset.mean().item(), offset.std().item(), _spearman(first, second))


def pair_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the images of class y of z_y - z_c: [N, K] and [N] -> [K, K]; NaN where a class has no images."""
    own = logits.gather(1, labels[:, None])
    classes = logits.shape[1]
    sums = torch.zeros(classes, classes, dtype=torch.float64, device=logits.device)
    sums.index_add_(0, labels, (own - logits).double())
    return sums / torch.bincount(labels, minlength=classes)[:, None].double()


def margin_by_similarity(logits: Tensor, labels: Tensor, texts: Tensor) -> float:
    """Observation 2: Spearman's correlation over pairs y != c of `pair_margins` and the similarity of their texts.

    Part of it is arithmetic: z_y - z_c = scale <v, t_y - t_c> is at most scale |t_y - t_c|. What an attack or a
    training does to it is seen against the value on clean images of the undefended model.

    Args:
        logits: [N, K]. labels: [N].
        texts: [K, D], of unit length.
    """
    margins = pair_margins(logits, labels)
    counted = ~torch.eye(len(texts), dtype=torch.bool, device=texts.device) & margins.isfinite()
    return _spearman(margins[counted], (texts @ texts.T)[counted])


def semantic_consistency(features: Tensor, before: Tensor, after: Tensor, scale: float) -> Consistency:
    """Observation 3: unit image features [N, D] under class texts [K, D] before and after they were moved.

    Args:
        features: of clean images, by the undefended model.
        before, after: unit class texts.
        scale: 1 / tau.
    """
    old, new = scale * features @ before.T, scale * features @ after.T
    agreement = (old.argmax(1) == new.argmax(1)).double().mean().item()
    return Consistency(
        kept_predictions(old, new).item(), agreement, neighbours_kept(before, after), rank_correlation(before, after)
    )


def _spearman(first: Tensor, second: Tensor) -> float:
    return float(spearmanr(first.cpu(), second.cpu()).statistic)
