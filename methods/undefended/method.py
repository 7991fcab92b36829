"""Zero-shot CLIP without a defence (Radford et al. 2021, section 3.1)."""

from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class Undefended(Defence):
    """Logits are logit scale times cosine of image and class text."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        return self.backbone(images, prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The model is its own surrogate."""
        return self.forward(images, prompts)
