"""C-AVP (Chen, Lorenz, Yao, Chen, Liu, ICASSP 2023, arXiv 2210.06284): a learned frame for each class.

The published method is for one ResNet-18 on CIFAR-10; here the classifier under the frames is CLIP's. The answer is
argmax_k P_k(x + p_k): each class is asked about under its own prompt. U-AVP has one prompt for all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..frames import at_size, border
from ..learned_context import NAMES, names_in, names_of, of_classes
from ..own_checkpoint import own_checkpoint

FRAME = 8 / 32  # width of the frame, of the picture's side
AT_ONCE = 512  # prompted pictures in the image tower: bounds the memory


@dataclass(frozen=True)
class Frames:
    """What is learned.

    Args:
        pixels: [K, 3, S, S], one for each class, or [1, 3, S, S]; only the border counts.
        class_names: that they were learned on.
    """

    pixels: Tensor
    class_names: tuple[str, ...]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them; the names as bytes."""
        return {"pixels": self.pixels, NAMES: names_in(self.class_names)}

    def on(self, images: Tensor, which: list[int]) -> Tensor:
        """Images [B, 3, S, S] -> [B, k, 3, S, S] under the frames of some classes, in [0,1]."""
        size = images.shape[-1]
        mask = border(size, round(FRAME * size)).to(images)
        return (images[:, None] + mask * self.pixels[which]).clamp(0, 1)


class CAVP(Defence):
    """Each class under its own frame; with `prompts=universal` all under one.

    Args:
        backbone: the undefended model; a checkpoint belongs to exactly one.
        learned: the frames; default: the checkpoint of this backbone and these deviations.

    Raises:
        UnavailableError: no checkpoint; says how to train one.
    """

    def __init__(
        self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, learned: Frames | None = None
    ) -> None:
        super().__init__(backbone, deviations)
        if learned is None:
            tensors = own_checkpoint(self, backbone)
            learned = Frames(tensors["pixels"], names_of(tensors[NAMES]))
        self.learned = learned

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. Class-wise: log P_k(x + p_k) / (1 - P_k(x + p_k)).

        The odds have the order of the probabilities, but do not flatten where a frame makes its class certain: under
        log P_k, most pictures' gradients vanish, and PGD stops for that alone.

        Raises:
            UnavailableError: one of the classes has no frame.
        """
        images = at_size(self.backbone, images)
        if self.deviations["prompts"] == "universal":
            return self.backbone(self.learned.on(images, [0])[:, 0], prompts)
        which = of_classes(prompts.class_names, self.learned.class_names, "a frame")
        logits = prompted_logits(self.backbone, self.learned, images, which, prompts)
        own = torch.eye(len(which), dtype=torch.bool, device=logits.device)
        return logits.diagonal(dim1=1, dim2=2) - logits.masked_fill(own, -torch.inf).logsumexp(-1)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and deterministic: the attacker needs nothing better than the model itself."""
        return self.forward(images, prompts)


def prompted_logits(backbone: Backbone, frames: Frames, images: Tensor, which: list[int], prompts: PromptSet) -> Tensor:
    """Images [B, 3, S, S] -> logits [B, k prompts, K classes], some pictures at a time."""
    step = max(1, AT_ONCE // len(which))
    parts = [backbone(frames.on(part, which).flatten(0, 1), prompts) for part in torch.split(images, step)]
    return torch.cat(parts).view(len(images), len(which), -1)
