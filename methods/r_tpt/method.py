"""R-TPT (Sheng, Liang, Wang, He, CVPR 2025, arXiv 2504.11195): each view sure of itself, and reliable views count.

One step on min_v mean_i H( p(. | view_i; v) ), the part of TPT's loss without the views' agreement, which an attack
misuses. Then sum_i w_i logits_i over all views, w = softmax(r / tau), r_i = mean cosine to the k nearest other views.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..prompt_tuning import initial_prompts, mean_entropy, tuned_text_features, view_logits
from ..views import VIEWS, draw_views, view_features

RELAXED_VIEWS = 9


class RTPT(Defence):
    """Tunes the context of the prompt on 64 views, then lets all views vote by reliability.

    Args:
        share: of the views, the most certain, that the loss sees.
        lr: of the one AdamW step.
        neighbours: k, how many other views say whether a view is reliable.
        temperature: tau of the weights.
        attack_views: how many views an attacker differentiates in a call, the image first; the others are constants.
            The published adaptive attack (T-VSS, table 14) takes 9, which was weaker here at the same cost.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        share: float = 0.1,
        lr: float = 5e-3,
        neighbours: int = 20,
        temperature: float = 0.01,
        attack_views: int = VIEWS,
    ) -> None:
        super().__init__(backbone, deviations)
        self.share, self.lr, self.attack_views = share, lr, attack_views
        self.neighbours, self.temperature = neighbours, temperature

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The tuned context is a constant to autograd."""
        return self._answer(images, prompts, unroll=False)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Differentiable as it is, weights included; EOT averages over the draws, hence over other views."""
        return self.forward(images, prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Also through the loss and the step, which moves nearly by lr sign(g)."""
        return self._answer(images, prompts, unroll=True)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Few views, the words as they are before the step, every view counting alike."""
        views = draw_views(images, self.draws, RELAXED_VIEWS)
        seen = views.render(images, self.backbone.image_size).flatten(0, 1)
        features = F.normalize(self.backbone.encode_image(seen).float(), dim=-1).view(len(images), RELAXED_VIEWS, -1)
        return self.backbone.logit_scale * features.mean(1) @ self.backbone.text_features(initial_prompts(prompts)).T

    def reliability(self, features: Tensor) -> Tensor:
        """Unit features [B, N, D] of the views -> r [B, N]."""
        similarity = features @ features.mT
        if self.deviations["mask"] == "diagonal":
            itself = torch.eye(features.shape[1], dtype=torch.bool, device=features.device)
        else:  # misses the products that float32 rounds below one
            itself = similarity >= 1.0
        others = similarity.masked_fill(itself, float("-inf"))
        return others.topk(min(self.neighbours, features.shape[1] - 1), dim=-1).values.mean(-1)

    def log_weights(self, features: Tensor) -> Tensor:
        """Unit features [B, N, D] of the views -> log w [B, N]; the weights w sum to one."""
        return torch.log_softmax(self.reliability(features) / self.temperature, dim=1)

    def _answer(self, images: Tensor, prompts: PromptSet, *, unroll: bool) -> Tensor:
        if self.deviations["quantise"] == "trunc":
            images = identity_backward(lambda x: x.mul(255).floor() / 255, images)
        count, augmix = int(self.deviations["views"]), self.deviations["augmix"] == "chains"
        views = draw_views(images, self.draws, count, augmix=augmix, eight_bit=self.deviations["crops"] == "8-bit")
        features = view_features(self.backbone, images, views, self.attack_views)
        text = tuned_text_features(
            self.backbone, prompts, features, mean_entropy, share=self.share, lr=self.lr, unroll=unroll
        )
        logits, log_weights = view_logits(self.backbone, features, text), self.log_weights(features)[..., None]
        if self.deviations["average"] == "probabilities":
            return (log_weights + logits.log_softmax(-1)).logsumexp(1)
        return (log_weights.exp() * logits).sum(1)
