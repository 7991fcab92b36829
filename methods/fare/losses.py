"""The loss of FARE (Schlarmann et al. 2024, section 3.2): how far embeddings are from the original model's."""

from torch import Tensor


def embedding_distance(features: Tensor, original: Tensor, *, distance: str = "squared-l2") -> Tensor:
    """L = mean_i ||phi_FT(z_i) - phi_Org(x_i)||_2^2: a sum over dimensions, of features that are NOT of unit length.

    Args:
        features: [B, D], of the tuned tower, for attacked images.
        original: [B, D], of the original tower, for clean ones.
        distance: `l1`: the sum of absolute differences, Table 9's other choice.
    """
    difference = features - original
    return (difference.abs() if distance == "l1" else difference.square()).sum(1).mean()
