"""The losses of TGA-ZSR beside TeCoA's cross-entropy (Yu et al. 2024, sections 3.2 and 3.3)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["l2", "cosine", "l1"]


def map_distance(maps: Tensor, target: Tensor, kind: Distance = "l2") -> Tensor:
    """Mean over the images of the distance of two attention maps [B, N]; L_AR and L_AMC are two uses of it.

    L_AR = mean_i ||A(x_adv; tuned) - A(x; original)||_2, L_AMC = mean_i ||A(x; tuned) - A(x; original)||_2.

    Args:
        maps: of the tuned model.
        target: of the original model, on clean images.
        kind: `l2` (not squared), or the paper's ablations: `cosine` is 1 - cosine, `l1` a mean over the elements.
    """
    if kind == "cosine":
        return (1 - F.cosine_similarity(maps, target)).mean()
    if kind == "l1":
        return (maps - target).abs().mean()
    norms: Tensor = torch.linalg.vector_norm(maps - target, dim=1)
    return norms.mean()
