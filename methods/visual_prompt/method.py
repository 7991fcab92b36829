"""Visual prompting (the second arm of Mao et al., ICLR 2023, arXiv 2212.07016): the towers stay, the input changes.

v(x; P) = v(norm(x) + P_frame, [tokens of x, P_tokens]): a frame of 30 of 224 pixels, added behind the normalisation and
not clipped, and tokens behind the patch tokens that have no position and enter the first layer only. Both are learned
on TeCoA's loss, on images attacked through them. An attack on the prompted model needs nothing adaptive.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.visual_prompts import depth_and_width, image_transformer, visual_prompts

from ..base import Defence
from ..frames import at_size, border
from ..own_checkpoint import own_checkpoint

FRAME = 30 / 224  # width of the frame, of the picture's side


@dataclass(frozen=True)
class Prompt:
    """What is learned.

    Args:
        frame: [3, S, S] in units of normalised pixels; only its border counts.
        tokens: [M, W] of the image tower's width; None: none.
    """

    frame: Tensor
    tokens: Tensor | None = None

    @classmethod
    def untrained(cls, backbone: Backbone, tokens: int, seed: int = 0) -> "Prompt":
        """All N(0, 1).

        Raises:
            UnavailableError: tokens are asked for, and the image tower is no transformer.
        """
        generator, size = torch.Generator().manual_seed(seed), backbone.image_size
        frame = torch.randn(3, size, size, generator=generator) * border(size, frame_width(size))
        if not tokens:
            return cls(frame.to(backbone.device))
        _, width = depth_and_width(image_transformer(backbone))
        return cls(frame.to(backbone.device), torch.randn(tokens, width, generator=generator).to(backbone.device))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        return {"frame": self.frame} | ({} if self.tokens is None else {"tokens": self.tokens})

    def logits(self, backbone: Backbone, images: Tensor, prompts: PromptSet) -> Tensor:
        """Images [B, 3, H, W] in [0,1] -> logits [B, K] of the prompted model."""
        size = backbone.image_size
        frame = self.frame * border(size, frame_width(size)).to(self.frame)
        framed = at_size(backbone, images) + frame * backbone.std  # the backbone normalises: (x - mean) / std + frame
        beside = (
            nullcontext() if self.tokens is None else visual_prompts(backbone, self.tokens[None, None], normed=True)
        )
        with beside:
            return backbone(framed, prompts)


def frame_width(size: int) -> int:
    """Pixels of the frame of a picture of this side."""
    return round(FRAME * size)


class VisualPrompt(Defence):
    """Zero-shot classification of framed pictures.

    Args:
        backbone: the undefended model; a checkpoint belongs to exactly one.
        learned: the prompt; default: the checkpoint of this backbone and these deviations.

    Raises:
        UnavailableError: no checkpoint; says how to train one.
    """

    def __init__(
        self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, learned: Prompt | None = None
    ) -> None:
        super().__init__(backbone, deviations)
        self.learned = learned or Prompt(**own_checkpoint(self, backbone))

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        return self.learned.logits(self.backbone, images, prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and deterministic: the attacker needs nothing better than the model itself."""
        return self.forward(images, prompts)
