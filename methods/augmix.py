"""AugMix (Hendrycks et al. 2020) at severity 1, all views at once and differentiable in the image.

Three chains of one to three random operations; their mix by Dirichlet(1, 1, 1) is mixed with the view by Beta(1, 1).
Assumed: operations and their strengths are those of the AugMix paper's code, which TPT took over.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.fixtures.draws import Draws

CHAINS, DEPTH = 3, 3


@dataclass(frozen=True)
class Mixes:
    """What was drawn for V views of each sample.

    Args:
        kinds: [B, V, CHAINS, DEPTH] numbers in OPERATIONS; -1 where a chain has ended.
        levels: like `kinds`, in +-[0.1, 1): strength and direction.
        shares: [B, V, CHAINS] of the chains in the mix.
        kept: [B, V] of the view itself in the result.
    """

    kinds: Tensor
    levels: Tensor
    shares: Tensor
    kept: Tensor

    def part(self, samples: slice, views: slice) -> "Mixes":
        """The draws for some of the samples and some of their views."""
        return Mixes(*(drawn[samples, views] for drawn in (self.kinds, self.levels, self.shares, self.kept)))

    def apply(self, views: Tensor) -> Tensor:
        """Views [B, V, 3, S, S] in [0,1] -> the same shape."""
        flat, kept = views.flatten(0, 1), self.kept.flatten().view(-1, 1, 1, 1)
        mix = torch.zeros_like(flat)
        for chain in range(CHAINS):
            moved = flat
            for depth in range(DEPTH):
                kinds, levels = (drawn[:, :, chain, depth].flatten() for drawn in (self.kinds, self.levels))
                moved = _each(moved, kinds, levels)
            mix = mix + self.shares[:, :, chain].flatten().view(-1, 1, 1, 1) * moved
        return (kept * flat + (1 - kept) * mix).view_as(views)


def draw_mixes(images: Tensor, draws: Draws, count: int) -> Mixes:
    """Draws for `count` views of each of the images [B, ...]."""
    like = images.new_empty(len(images), count, CHAINS, 2 + 3 * DEPTH)
    drawn = draws.uniform(like, 0.0, 1.0)
    exponential, length = -drawn[..., 0].clamp_min(1e-12).log(), drawn[..., 1]
    steps = drawn[..., 2:].reshape(*drawn.shape[:-1], 3, DEPTH)
    kinds = (steps[..., 0, :] * len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)
    ended = torch.arange(DEPTH, device=images.device) >= 1 + (length[..., None] * DEPTH).floor()
    levels = (0.1 + 0.9 * steps[..., 1, :]) * torch.where(steps[..., 2, :] < 0.5, -1.0, 1.0)
    kept = draws.uniform(images.new_empty(len(images), count), 0.0, 1.0)
    return Mixes(kinds.masked_fill(ended, -1), levels, exponential / exponential.sum(-1, keepdim=True), kept)


def _each(views: Tensor, kinds: Tensor, levels: Tensor) -> Tensor:
    """Views [n, 3, S, S], each under its own operation."""
    for kind, operation in enumerate(OPERATIONS):
        (index,) = torch.where(kinds == kind)
        if len(index):
            views = views.index_copy(0, index, operation(views[index], levels[index]))
    return views


def _autocontrast(views: Tensor, levels: Tensor) -> Tensor:
    low, high = views.amin((2, 3), keepdim=True), views.amax((2, 3), keepdim=True)
    flat = low == high  # a channel of one value stays as it is
    return torch.where(flat, views, (views - low) / torch.where(flat, 1, high - low))


def _solarize(views: Tensor, levels: Tensor) -> Tensor:
    threshold = (256 - (levels.abs() * 25.6).floor()).view(-1, 1, 1, 1) / 255
    return torch.where(views >= threshold, 1 - views, views)


def _affine(views: Tensor, rows: list[list[Tensor]]) -> Tensor:
    """Linear sampling at the affine image of the grid, black outside."""
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
    grid = F.affine_grid(matrix, list(views.shape), align_corners=False)
    return F.grid_sample(views, grid, align_corners=False)


def _rotate(views: Tensor, levels: Tensor) -> Tensor:
    angle = torch.trunc(3 * levels) * math.pi / 180
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _affine(views, [[cosine, -sine, zero], [sine, cosine, zero]])


def _shear_x(views: Tensor, levels: Tensor) -> Tensor:
    shear, one, zero = 0.03 * levels, torch.ones_like(levels), torch.zeros_like(levels)
    return _affine(views, [[one, shear, shear], [zero, one, zero]])  # the corner stays, not the middle


def _translate_x(views: Tensor, levels: Tensor) -> Tensor:
    side = views.shape[-1]
    move, one, zero = torch.trunc(levels * side / 30) * 2 / side, torch.ones_like(levels), torch.zeros_like(levels)
    return _affine(views, [[one, zero, move], [zero, one, zero]])


def _transposed(operation: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda views, levels: operation(views.mT, levels).mT


def _equalize(views: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize  # slow to import

    found: Tensor = equalize(views)
    return found


def _posterize(views: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import posterize

    found: Tensor = posterize(views, 4)
    return found


# Equalising and posterising have no useful derivative: an attacker takes them for the identity.
OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    _autocontrast,
    lambda views, levels: identity_backward(_equalize, views),
    lambda views, levels: identity_backward(_posterize, views),
    _solarize,
    _rotate,
    _shear_x,
    _transposed(_shear_x),
    _translate_x,
    _transposed(_translate_x),
)
