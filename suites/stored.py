"""Attacked images on their way to the defence: some papers write them to 8 bits in between."""

from torch import Tensor

from vlm_gauntlet.fixtures.protocols import Stored


def as_stored(images: Tensor, stored: Stored) -> Tensor:
    """The images that a defence reads, [B, 3, H, W] in [0, 1].

    Args:
        images: what the attack made.
        stored: `truncated` as torchvision's ToPILImage turns floats into bytes, `rounded` as its `save_image` does;
            both are read again as bytes over 255.
    """
    if stored == "floats":
        return images
    return (images * 255 + (0.5 if stored == "rounded" else 0.0)).floor().clamp(0, 255) / 255
