"""The transforms of DBD that are no crops: of pixels and frequencies, each for a whole batch."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward

BITS, QUALITIES, SIDE, BLUR = 3, (50, 60, 75), 5, 1.1
COUNT = 2 + len(QUALITIES) + 2  # pictures that `deterministic` makes


def deterministic(images: Tensor, *, passed: bool) -> Tensor:
    """Images [B, 3, H, W] in [0,1] -> [B, 7, 3, H, W]: 3 bits, JPEG at three qualities, median, mean, Gaussian.

    Args:
        images: in [0,1].
        passed: an attacker takes the Jacobian of the steps (bits, JPEG, the choice of the median) for the identity.
    """

    steps: list[Callable[[Tensor], Tensor]] = [
        partial(bit_depth, bits=BITS), *(partial(jpeg, quality=quality) for quality in QUALITIES), median,
    ]  # fmt: skip
    pictures = [identity_backward(step, images) if passed else step(images) for step in steps]
    return torch.stack([*pictures, mean(images), gaussian(images)], dim=1)


def bit_depth(images: Tensor, bits: int) -> Tensor:
    """The nearest of 2^bits levels."""
    levels = 2**bits - 1
    rounded: Tensor = (images * levels).round() / levels
    return rounded


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Written as JPEG and read again, picture by picture; a constant to autograd."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg  # slow to import

    pictures = images.detach().mul(255).round().to("cpu", torch.uint8)
    read = [decode_jpeg(encode_jpeg(picture, quality), ImageReadMode.RGB) for picture in pictures]
    return torch.stack(read).to(images) / 255


def median(images: Tensor) -> Tensor:
    """The median of each square of 25 pixels, channel by channel."""
    return _squares(images).median(dim=-1).values


def mean(images: Tensor) -> Tensor:
    """The mean of each square of 25 pixels."""
    return F.avg_pool2d(_padded(images), SIDE, stride=1)


def gaussian(images: Tensor) -> Tensor:
    """The mean of each square of 25 pixels, weighed by exp(-d^2 / (2 1.1^2)), d the distance from its middle."""
    offsets = torch.arange(SIDE, device=images.device, dtype=images.dtype) - SIDE // 2
    line = torch.softmax(-offsets.square() / (2 * BLUR**2), dim=0)
    return _squares(images) @ (line[:, None] * line).flatten()


def _padded(images: Tensor) -> Tensor:
    return F.pad(images, (SIDE // 2,) * 4, mode="reflect")


def _squares(images: Tensor) -> Tensor:
    """Images [B, C, H, W] -> the 25 pixels around each [B, C, H, W, 25]."""
    return _padded(images).unfold(2, SIDE, 1).unfold(3, SIDE, 1).flatten(-2)
