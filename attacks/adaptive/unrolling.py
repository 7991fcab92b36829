"""Differentiable unrolling of a defence's own steps: exact forwards, smooth backwards, second-order gradients."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..balls import per_sample
from .straight_through import straight_through


def soft_sign(gradient: Tensor, sharpness: float = 1.0) -> Tensor:
    """The sign of a gradient [B, ...], which differentiates like tanh(sharpness g / mean |g|) of each sample.

    Without a graph behind the gradient it is the sign alone, whose own derivative is zero everywhere.
    """
    if not gradient.requires_grad:
        return gradient.sign()
    scale = gradient.detach().abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return straight_through(gradient.sign(), torch.tanh(sharpness * gradient / per_sample(scale, gradient)))


def gradient_at(objective: Callable[[Tensor], Tensor], point: Tensor, *, unroll: bool = False) -> Tensor:
    """Gradient of a scalar objective at a point [B, ...], as a defence's inner step takes it.

    Args:
        objective: point -> scalar, summed over the batch.
        point: where; detached unless unrolled.
        unroll: keep the graph, so that the outer attack differentiates through the step.
    """
    if not (unroll and point.requires_grad):
        with torch.enable_grad():
            inputs = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(objective(inputs), inputs)
        return gradient
    with torch.enable_grad(), twice_differentiable():
        (gradient,) = torch.autograd.grad(objective(point), point, create_graph=True)
    return gradient


def twice_differentiable() -> AbstractContextManager[None]:
    """Attention by plain matrix products: torch's fused kernels have no second derivative."""
    kernel: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return kernel
