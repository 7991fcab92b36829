"""Projections onto the eps-ball and the image box."""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws


def lp_norm(delta: Tensor, norm: str) -> Tensor:
    """Norm of each sample of delta [B, ...] -> [B]. `norm` is `linf` or `l2`."""
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshapes [B] so that it broadcasts over `like` [B, ...]."""
    return values.view(-1, *[1] * (like.dim() - 1))


def unit_share(gradient: Tensor) -> Tensor:
    """A gradient [B, ...] scaled to L1 norm 1, so that two can be weighed whatever the units of their losses."""
    length = gradient.abs().flatten(1).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / per_sample(length, gradient)


def project(images: Tensor, clean: Tensor, *, norm: str, eps: float) -> Tensor:
    """The point of {ball(clean, eps) and [0,1]} reached from images [B, C, H, W].

    Images well inside keep their bits. L-inf: exact. L2: shrinks onto the ball, then clips; clipping towards a clean
    image inside [0,1] never enlarges any coordinate, so the result stays inside both.
    """
    if norm == "linf":
        return images.clamp(clean - eps, clean + eps).clamp(0, 1)
    delta = images - clean
    length = lp_norm(delta, "l2")
    shrunk = clean + delta * per_sample(eps / length.clamp_min(1e-12), delta)
    return torch.where(per_sample(length < eps, images), images, shrunk).clamp(0, 1)


def random_point(clean: Tensor, draws: Draws, *, norm: str, eps: float) -> Tensor:
    """A random point of {ball(clean, eps) and [0,1]} [B, 3, H, W].

    L-inf: uniform in the ball. L2: Gaussian direction, uniform radius. Then projected.
    """
    if norm == "linf":
        noise = draws.uniform(clean, -eps, eps)
    else:
        direction = draws.normal(clean)
        radius = draws.uniform(clean[:, 0, 0, 0], 0.0, eps)
        noise = direction * per_sample(radius / lp_norm(direction, "l2").clamp_min(1e-12), direction)
    return project(clean + noise, clean, norm=norm, eps=eps)


def outside(images: Tensor, clean: Tensor, *, norm: str, eps: float) -> Tensor:
    """Which samples [B] left the ball or the box. Tolerance: float32 rounding only."""
    distance = lp_norm(images - clean, norm)
    low, high = images.flatten(1).amin(1), images.flatten(1).amax(1)
    limit = eps * (1 + 1e-5) + 1e-6
    return (distance > limit) | (low < 0) | (high > 1) | ~torch.isfinite(distance)
