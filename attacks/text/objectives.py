"""What a text attack maximises: how far a sentence's features went, or how far they stand from an image."""

from collections.abc import Callable

from torch import Tensor

Objective = Callable[[Tensor], Tensor]
"""Features [N, D] of unit length -> scores [N]; the higher, the more the change hurts."""


def kl(clean: Tensor, features: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(features)): unit features [D] and [N, D] -> [N].

    Source: Co-Attack (Zhang et al. 2022, arXiv:2206.09391). The features are read as logits.
    """
    p, q = clean.log_softmax(-1), features.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def squared(clean: Tensor, features: Tensor) -> Tensor:
    """Squared distance [N] of unit features [D] and [N, D].

    The KL of unit features is this up to a factor and the mean of the difference, and in float32 mostly rounding.
    """
    return (features - clean).square().sum(-1)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"kl": kl, "squared": squared}


def away_from_image(image: Tensor) -> Objective:
    """1 - cosine with an image feature [D] of unit length (SGA, Lu et al. 2023, arXiv:2307.14061) or a mean of some."""
    direction = image.double()
    return lambda features: 1 - features @ direction
