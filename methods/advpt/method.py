"""AdvPT (Zhang, Ma, Wang, Qiu, Wang, Jiang, Sang, ECCV 2024, arXiv 2311.11261): a context learned on a bank.

First a bank of attacked embeddings of the training pictures, once, on the image tower alone (`bank.py`); then the
context in front of the class names by cross-entropy on the bank (`train.py`). The image tower is plain CLIP's and stays
so: at inference this is zero-shot classification, and an attack on it needs nothing adaptive.
"""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..learned_context import LearnedContext, cosine_logits
from ..own_checkpoint import own_checkpoint


class AdvPT(Defence):
    """Cosine classifier over class names behind a learned context.

    Args:
        backbone: the undefended model; a checkpoint belongs to exactly one.
        learned: the context; default: the checkpoint of this backbone and these deviations.

    Raises:
        UnavailableError: no checkpoint; says how to train one.
    """

    def __init__(
        self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, learned: LearnedContext | None = None
    ) -> None:
        super().__init__(backbone, deviations)
        self.learned = learned or LearnedContext.of(own_checkpoint(self, backbone), middle=False)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        weights = self.learned.class_weights(self.backbone, prompts)
        return cosine_logits(self.backbone, self.backbone.encode_image(images), weights)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and deterministic: the attacker needs nothing better than the model itself."""
        return self.forward(images, prompts)
