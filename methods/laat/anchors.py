"""LAAT's anchors (Li et al. 2024): unit class texts, pushed apart from their pole; what that keeps, and what not.

With the pole m, the unit mean of the training anchors, an anchor is a = cos(p) m + sin(p) u: p is its polar angle, u
its direction from the pole. Expansion is p -> k p with k = (pi / 2) / (largest p of a training anchor), u as it is.

Kept exactly, by all anchors of a fit, those of later classes included (tests/methods/test_laat_topology.py):

1. Length 1: m and u are orthogonal units, and cos^2 + sin^2 = 1.
2. The angles between the directions u: they are not touched.
3. Order and ratios of the angles to the pole: each is multiplied by the same k.
4. The farthest training anchor lies at a right angle to the pole, k p = pi / 2; no training anchor lies beyond.
5. On one meridian (same u) angles are multiplied by k; on opposite ones (u, -u) they are k p + k q while that is <= pi.
6. The order of similarities among anchors of one polar angle: cos^2(kp) + sin^2(kp) <u, v> grows with <u, v>.
7. Different anchors stay different while k p < pi: (k p, u) are polar coordinates of one point, as (p, u) were.
8. It turns with the space, and does not depend on the order of classes: m does so, p and u are defined by m.
9. For k >= 1 no pair of training anchors comes closer. The sphere's metric dp^2 + sin^2(p) dw^2 becomes
   k^2 dp^2 + sin^2(kp) dw^2, nowhere smaller where kp <= pi / 2. The images of two anchors lie in the closed hemisphere
   around m, and so does the shortest arc between them (antipodes are as far apart as can be). The curve that becomes
   this arc joins the two anchors and is no longer than the arc; so the angle between the anchors is no larger.
10. Two classes become antipodes: both have the largest p, and m halves the arc between them.

Not kept: the order of similarities of arbitrary pairs, so that nearest neighbours may change; angles that do not go
through the pole; the mean (so a second expansion moves anchors again); with k < 1, where a training anchor is more than
a right angle from the pole, 9; and 9 for later classes that lie beyond the training anchors.
"""

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_gauntlet.fixtures.errors import GauntletError


class Expansion(nn.Module):
    """The map of class weights, fitted on the training classes: a' = cos(k p) m + sin(k p) u.

    Args:
        pole: m [D], of unit length.
        factor: k.
    """

    pole: Tensor
    factor: Tensor

    def __init__(self, pole: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("pole", F.normalize(pole, dim=-1))
        self.register_buffer("factor", factor)

    @classmethod
    def fit(cls, anchors: Tensor) -> Self:
        """The expansion of the training anchors [K, D], which need not have unit length.

        Raises:
            GauntletError: they have no pole, or all lie in it.
        """
        unit = F.normalize(anchors, dim=-1)
        tiny = 8 * torch.finfo(unit.dtype).eps
        mean = unit.mean(0)
        if mean.norm() <= tiny:
            raise _refused("anchors whose mean is zero", "a mean direction")
        made = cls(mean, torch.ones((), dtype=unit.dtype, device=unit.device))
        widest = made.polar(unit)[0].max()
        if widest <= tiny:
            raise _refused("anchors that are all the same", "two different classes or more")
        made.factor = (math.pi / 2) / widest
        return made

    def polar(self, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Unit anchors [..., D] -> angles [...] to the pole, and directions [..., D] from it; at the pole, none."""
        along = anchors @ self.pole
        across = anchors - along[..., None] * self.pole
        length = across.norm(dim=-1)
        return torch.atan2(length, along), across / length.clamp_min(torch.finfo(length.dtype).tiny)[..., None]

    def forward(self, anchors: Tensor) -> Tensor:
        """Unit anchors [..., D] -> expanded ones; that of the pole is the pole.

        Raises:
            GauntletError: an anchor opposite to the pole, to which no single direction leads.
        """
        angles, directions = self.polar(anchors)
        if ((angles > 1) & (directions == 0).all(-1)).any():
            raise _refused("an anchor opposite to the pole", "anchors with a direction from the pole")
        moved = self.factor * angles
        return moved.cos()[..., None] * self.pole + moved.sin()[..., None] * directions


def expanded_by_rotations(anchors: Tensor, training: int) -> Tensor:
    """The same as the paper does it: turn the pole into the first axis, stretch polar angles, turn back.

    Args:
        anchors: [K, D], unit.
        training: how many of them, the first ones, are fitted on.
    """
    turn = turn_to_first_axis(F.normalize(anchors[:training].mean(0), dim=-1))
    turned = anchors @ turn.T
    angles = turned[:, 0].clamp(-1, 1).acos()
    moved = angles * (math.pi / 2) / angles[:training].max()
    stretch = torch.where(angles > 0, moved.sin() / angles.sin(), 1.0)
    return torch.cat([moved.cos()[:, None], turned[:, 1:] * stretch[:, None]], dim=1) @ turn


def turn_to_first_axis(pole: Tensor) -> Tensor:
    """A rotation [D, D] of a unit vector [D] to the first axis, by D - 1 Givens rotations from the last axis on."""
    turn, vector = torch.eye(len(pole), dtype=pole.dtype), pole.clone()
    for i in range(len(pole) - 1, 0, -1):
        length = torch.hypot(vector[i - 1], vector[i])
        if length == 0:  # nothing to turn
            continue
        cos, sin = vector[i - 1] / length, vector[i] / length
        givens = torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])
        turn[i - 1 : i + 1] = givens @ turn[i - 1 : i + 1]
        vector[i - 1], vector[i] = length, 0.0
    return turn


def _refused(what: str, expected: str) -> GauntletError:
    return GauntletError(what, expected=expected, where="LAAT's expansion", fix="choose class names that differ")
