"""Differentiable unrolling of a defence's own sign steps: exact forwards, smooth backwards."""

import torch
from torch import Tensor

from ..balls import per_sample
from .straight_through import straight_through


def soft_sign(gradient: Tensor, sharpness: float = 1.0) -> Tensor:
    """The sign of a gradient [B, ...], which differentiates like tanh(sharpness g / mean |g|) of each sample.

    The gradient must have been taken with `create_graph=True`; a sign without this has derivative zero everywhere.
    """
    scale = gradient.detach().abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return straight_through(gradient.sign(), torch.tanh(sharpness * gradient / per_sample(scale, gradient)))
