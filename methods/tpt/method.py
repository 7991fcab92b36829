"""TPT (Shu et al., NeurIPS 2022): before each answer, one step that makes the views of the image agree.

min_v H( mean_i p(. | view_i; v) ) over the views the model is surest of; answer p(. | x; v*).
"""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..prompt_tuning import initial_prompts, marginal_entropy, tuned_text_features, view_logits
from ..views import draw_views, view_features


class TPT(Defence):
    """Tunes the context of the prompt on 64 views, answers on the image itself.

    Args:
        share: of the views, the most certain, that the loss sees.
        lr: of the one AdamW step.
        attack_views: how many views an attacker differentiates in a call, the image first; the others are constants.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        share: float = 0.1,
        lr: float = 5e-3,
        attack_views: int = 9,
    ) -> None:
        super().__init__(backbone, deviations)
        self.share, self.lr, self.attack_views = share, lr, attack_views

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The tuned context is a constant to autograd."""
        return self._answer(images, prompts, unroll=False)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Differentiable as it is: the answer is the tuned model's on the very image that the attacker moves."""
        return self.forward(images, prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Also through the views, the loss and the step, which moves nearly by lr sign(g)."""
        return self._answer(images, prompts, unroll=True)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The image alone, under the words as they are before the step."""
        return self.backbone(images, initial_prompts(prompts))

    def _answer(self, images: Tensor, prompts: PromptSet, *, unroll: bool) -> Tensor:
        count, augmix = int(self.deviations["views"]), self.deviations["augmix"] == "chains"
        views = draw_views(images, self.draws, count, augmix=augmix, eight_bit=self.deviations["crops"] == "8-bit")
        # Without the step in the graph only the image itself, view 0, matters to the gradient.
        features = view_features(self.backbone, images, views, self.attack_views if unroll else 1)
        text = tuned_text_features(
            self.backbone, prompts, features, marginal_entropy, share=self.share, lr=self.lr, unroll=unroll
        )
        return view_logits(self.backbone, features[:, :1], text).squeeze(1)
