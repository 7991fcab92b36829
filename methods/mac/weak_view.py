"""MAC's weak view of an image: a little turned, shifted and scaled; half of the time re-coloured, blurred, noisy.

Torchvision's own operations, with numbers from each sample's stream; differentiable.
"""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

DEGREES, SHIFT, SCALE = 5.0, 0.04, 0.08
COLOUR, HUE, WIDTHS, NOISE, SOMETIMES = 0.08, 0.02, (0.5, 1.2), 0.02, 0.5
NUMBERS = 17  # uniform numbers for a view


def weak_views(images: Tensor, draws: Draws) -> Tensor:
    """Images [B, ..., 3, H, W] in [0,1] -> as many views of the same shape, each from its sample's stream."""
    lead = images.shape[1:-3]
    numbers = draws.uniform(images.new_empty(len(images), *lead, NUMBERS), 0.0, 1.0)
    noise = draws.normal(images)
    views = [weak_view(*one) for one in zip(
        images.flatten(0, -4), numbers.flatten(0, -2).tolist(), noise.flatten(0, -4), strict=True
    )]  # fmt: skip
    return torch.stack(views).view_as(images)


def weak_view(image: Tensor, numbers: list[float], noise: Tensor) -> Tensor:
    """One image [3, H, W] -> its view; `numbers` are 17 of [0,1), `noise` is standard normal."""
    from torchvision.transforms import InterpolationMode  # slow to import
    from torchvision.transforms import functional as TF

    angle, right, down, scale, coloured, blurred, noisy, width_of_blur, sigma, *rest = numbers
    height, width = image.shape[-2:]
    shift = [round(SHIFT * width * (2 * right - 1)), round(SHIFT * height * (2 * down - 1))]
    turn, size = DEGREES * (2 * angle - 1), 1 + SCALE * (2 * scale - 1)
    image = TF.affine(image, turn, shift, size, [0.0], InterpolationMode.BILINEAR)
    if coloured < SOMETIMES:
        image = _jitter(image, rest[:4], rest[4:])
    if blurred < SOMETIMES:
        image = TF.gaussian_blur(image, [5, 5], [WIDTHS[0] + width_of_blur * (WIDTHS[1] - WIDTHS[0])] * 2)
    if noisy < SOMETIMES:
        image = (image + NOISE * sigma * noise).clamp(0, 1)
    return image


def _jitter(image: Tensor, amounts: list[float], order: list[float]) -> Tensor:
    """Brightness, contrast, saturation and hue, in random order."""
    from torchvision.transforms import functional as TF

    factors = [1 + COLOUR * (2 * amount - 1) for amount in amounts[:3]]
    steps = (
        lambda x: TF.adjust_brightness(x, factors[0]),
        lambda x: TF.adjust_contrast(x, factors[1]),
        lambda x: TF.adjust_saturation(x, factors[2]),
        lambda x: TF.adjust_hue(x, HUE * (2 * amounts[3] - 1)),
    )
    for place in sorted(range(len(steps)), key=order.__getitem__):
        image = steps[place](image)
    return image
