"""APT (Li, Guan, Qiu, Spratling, CVPR 2024, arXiv 2403.01849): a text context learned on attacked pictures.

min_V E[max_{|d| <= eps} CE(f(x + d; V), y)]: only the context V in front of the class name is learned, shallow, for a
frozen image tower that was fine-tuned adversarially before (TeCoA's). The loss is in `losses.py`, training in
`train.py`. At inference it is zero-shot classification: an attack on it needs nothing adaptive.
"""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..learned_context import LearnedContext, cosine_logits
from ..own_checkpoint import own_checkpoint
from ..tecoa.method import TeCoA


class APT(Defence):
    """Cosine classifier over class names behind a learned context.

    Args:
        backbone: the undefended model; a checkpoint belongs to exactly one.
        learned: the context; default: the checkpoint of this backbone and these deviations.

    Raises:
        UnavailableError: no checkpoint, or none of TeCoA for this backbone; says how to train one.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        learned: LearnedContext | None = None,
    ) -> None:
        super().__init__(backbone, deviations)
        middle = self.deviations["position"] == "middle"
        self.learned = learned or LearnedContext.of(own_checkpoint(self, backbone), middle=middle)
        self.tower = image_tower(backbone, self.deviations["encoder"])

    @classmethod
    def over(cls, tower: Backbone, original: Backbone, deviations: Mapping[str, str]) -> Defence:
        """See Defence. A context belongs to the tower that it was learned for."""
        raise GauntletError(
            f"{cls.card.id} on another fine-tuned tower", expected=f"{cls.card.id} alone: it brings TeCoA's tower",
            where="--method", fix=f"--method {cls.card.id}",
        )  # fmt: skip

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        weights = self.learned.class_weights(self.backbone, prompts)
        return cosine_logits(self.tower, self.tower.encode_image(images), weights)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and deterministic: the attacker needs nothing better than the model itself."""
        return self.forward(images, prompts)


def image_tower(backbone: Backbone, encoder: str) -> Backbone:
    """The frozen image tower under the prompts: TeCoA's of this backbone, or the backbone's own."""
    return TeCoA(backbone).tuned_backbone if encoder == "tecoa" else backbone
