"""A learned frame around the picture: what visual prompts in pixel space are (TeCoA's arm, C-AVP)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone


def border(size: int, width: int) -> Tensor:
    """1 on a frame of `width` pixels of a square picture, 0 inside it: [size, size]."""
    mask = torch.ones(size, size)
    mask[width : size - width, width : size - width] = 0
    return mask


def at_size(backbone: Backbone, images: Tensor) -> Tensor:
    """Images as large as the backbone sees them, where a frame can be added; resized as the backbone itself does."""
    size = (backbone.image_size,) * 2
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False)
