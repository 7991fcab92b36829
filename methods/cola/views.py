"""Random resized crops with flips, differentiable, each sample from its own stream."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

RATIO = 3 / 4  # the aspect ratio of a crop lies between this and its inverse, as torchvision has it


def random_crops(images: Tensor, draws: Draws, count: int, smallest: float) -> Tensor:
    """Images [B, 3, H, W] -> views [B, count, 3, H, W].

    A crop has U(smallest, 1) of the area and a log-uniform aspect ratio, lies anywhere, is flipped half of the time and
    scaled bilinearly to the image's size. A side that would be longer than the image's is cut to it, where torchvision
    draws again.
    """
    area, ratio, right, down, flip = draws.uniform(images.new_empty(len(images), 5, count), 0.0, 1.0).unbind(1)
    area, stretch = smallest + (1 - smallest) * area, torch.exp((1 - 2 * ratio) * math.log(RATIO) / 2)
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    # Coordinates run from -1 to 1: half sides scale, what is left of the image shifts.
    zero = torch.zeros_like(area)
    mirrored = torch.where(flip < 0.5, -width, width)
    horizontal = torch.stack([mirrored, zero, (1 - width) * (2 * right - 1)], dim=-1)
    vertical = torch.stack([zero, height, (1 - height) * (2 * down - 1)], dim=-1)
    boxes = torch.stack([horizontal, vertical], dim=-2).flatten(0, 1)
    repeated = images.repeat_interleave(count, 0)
    grid = F.affine_grid(boxes, list(repeated.shape), align_corners=False)
    views = F.grid_sample(repeated, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views.view(len(images), count, *images.shape[1:])
