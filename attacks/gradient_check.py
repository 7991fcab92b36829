"""Does a gradient predict what the function does? Directional derivatives by central differences, on the same draws.

A gradient that comes from elsewhere (noise, another model's) may be alive and plausible; along random directions it
agrees with the differences of the loss no better than chance, or than two models agree with each other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .adaptive.eot import input_gradient
from .base import Victim
from .losses import margin

DIRECTIONS = 4
LEAST_STEPS = 20  # an attack of fewer proves nothing, whatever its gradient
SHARE = 1 / 2  # of eps: beyond rounding and the creases of inner sign steps, near enough for a derivative
NOTHING = -2.0  # below every cosine, where the function stays constant


def agreement(victim: Victim, images: Tensor, labels: Tensor, keys: tuple[int, ...], *, eps: float) -> Tensor:
    """Cosine, for each sample [B], between predicted and actual changes of the margin along random sign directions.

    1 where the gradient is the function's own, about 0 where it has nothing to do with it; 0 as well where the
    gradient vanishes and the function does not. `NOTHING` where the function stays constant.

    Args:
        victim: its streams must be the same in every call, so that all differences are taken on common random numbers.
        images: where to look [B, 3, H, W] in [0,1].
        labels: true classes [B].
        keys: one random key a sample, for the directions.
        eps: radius of the threat model in L-inf; steps are half of it.
    """
    gradient, _, _ = input_gradient(victim, images, labels, margin)
    predicted, actual = [], []
    for direction in range(DIRECTIONS):
        way = Draws(keys, call=direction).uniform(images, -1, 1).sign()
        ahead, behind = ((images + side * SHARE * eps * way).clamp(0, 1) for side in (1, -1))
        predicted.append((gradient.nan_to_num(0, 0, 0) * (ahead - behind)).flatten(1).sum(1))
        actual.append(_value(victim, ahead, labels) - _value(victim, behind, labels))
    foreseen, seen = torch.stack(predicted, 1), torch.stack(actual, 1)
    size = seen.abs().amax(1, keepdim=True)
    found = F.cosine_similarity(foreseen, seen / size.clamp_min(torch.finfo(seen.dtype).tiny), dim=1)
    return torch.where(size.squeeze(1) > 0, found, NOTHING)


def _value(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(victim(images).float(), labels)
