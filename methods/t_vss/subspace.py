"""The subspace that one sample's views span around the image (T-VSS, equations 3 and 4)."""

import torch
from torch import Tensor

ROUNDING = 1e-5  # unit features that lie closer differ by rounding, and by other rounding on another processor


def residuals(features: Tensor, anchor: str) -> Tensor:
    """Features [N, D] of the views, the image first -> what is left of them without the anchor, [n, D].

    Args:
        features: of unit length.
        anchor: `image` (the other views less the image's feature), `mean` (all, less their mean) or `none` (all).
    """
    if anchor == "image":
        return features[1:] - features[0]
    return features - features.mean(0) if anchor == "mean" else features


def leading(rows: Tensor, share: float) -> Tensor:
    """Rows [n, D] -> orthonormal rows [m, D], the fewest right singular vectors that hold this share of the energy.

    Energy is the sum of squared singular values. Directions in which the rows differ by rounding alone (root mean
    square) are none: a share of one takes all others, equal views have none.
    """
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    energy = values.double().square().cumsum(0)
    before = torch.cat([energy.new_zeros(1), energy[:-1]])
    differs = values > ROUNDING * len(rows) ** 0.5
    found: Tensor = directions[(before < share * energy[-1]) & differs]
    return found


def random_directions(noise: Tensor) -> Tensor:
    """Standard normal noise [m, D], m <= D -> orthonormal rows [m, D], uniformly distributed."""
    orthonormal: Tensor = torch.linalg.qr(noise.mT).Q
    return orthonormal.mT
