"""T-VSS (Jang et al., arXiv 2606.23132): one shift for the features of all views, inside the subspace they span.

Unit features f_0 of the image and f_1..f_N of its views; equations as numbered in the paper:
    R = (f_i - f_0)_i = U S V^T,  m least with s_1^2 + ... + s_m^2 >= rho |R|^2        the subspace V_m (3, 4)
    f_i(a) = (f_i + V_m a) / |f_i + V_m a|                                             one shift for all (5)
    w = softmax(r / tau), r_i = mean cosine to the K nearest other views               as in R-TPT (6, 7)
    a = one AdamW step from zero on sum_i w_i H(p(f_i(a)))                             (8)
and the answer is sum_i w_i p(f_i(a)) (9). The encoder looks once; the step moves by lr along each direction kept.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..prompt_tuning import first_adamw_step
from ..r_tpt.method import RELAXED_VIEWS, RTPT
from ..views import VIEWS, draw_views, entropy, view_features
from .subspace import leading, random_directions, residuals


class TVSS(Defence):
    """Steers 64 views by a few shared coefficients, then lets all of them vote by reliability.

    Args:
        share: rho, of the residuals' energy, that the subspace holds.
        lr: of the one AdamW step.
        neighbours: K, how many other views say whether a view is reliable.
        temperature: tau of the weights.
        attack_views: how many views an attacker differentiates in a call, the image first; the others are constants.
            The authors' own EOT-PGD builds its defended pass from 9.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        share: float = 0.9,
        lr: float = 0.1,
        neighbours: int = 5,
        temperature: float = 0.05,
        attack_views: int = VIEWS,
    ) -> None:
        super().__init__(backbone, deviations)
        self.share = 1.0 if self.deviations["rank"] == "full" else share
        self.lr, self.attack_views = lr, attack_views
        self.vote = RTPT(backbone, neighbours=neighbours, temperature=temperature)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The shift is a constant to autograd."""
        return self._answer(images, prompts, unroll=False)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Differentiable as it is, weights included; EOT averages over the draws, hence over other views."""
        return self.forward(images, prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Also through the loss and the step, at no further pass; the basis stays a constant.

        The derivative of singular vectors has no bound where two singular values meet.
        """
        return self._answer(images, prompts, unroll=True)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Few views, none of them steered, every view counting alike."""
        seen = draw_views(images, self.draws, RELAXED_VIEWS).render(images, self.backbone.image_size)
        features = F.normalize(self.backbone.encode_image(seen.flatten(0, 1)).float(), dim=-1)
        return self.backbone.classify(features.view(len(images), RELAXED_VIEWS, -1).mean(1), prompts)

    def log_weights(self, features: Tensor) -> Tensor:
        """Unit features [B, N, D] of the views -> log w [B, N]; the weights w sum to one."""
        if self.deviations["weights"] == "uniform":
            return torch.zeros_like(features[..., 0]).log_softmax(1)
        return self.vote.log_weights(features)

    def directions(self, features: Tensor) -> list[Tensor]:
        """Unit features [B, N, D] of the views -> of each sample orthonormal rows [m, D] to move along, constants."""
        still = features.detach()
        found = [leading(residuals(of_one, self.deviations["anchor"]), self.share) for of_one in still]
        if self.deviations["basis"] == "residuals":
            return found
        noise = self.draws.normal(still[:, : still.shape[-1]])
        return [random_directions(drawn[: len(rows)]) for drawn, rows in zip(noise, found, strict=True)]

    def steered(
        self, features: Tensor, directions: Tensor, log_weights: Tensor, prompts: PromptSet, *, unroll: bool = False
    ) -> Tensor:
        """Features [N, D] of one sample's views after the step, not yet of unit length.

        Args:
            features: of unit length.
            directions: orthonormal rows [m, D]; without any nothing moves.
            log_weights: [N].
            prompts: the classes.
            unroll: keep the graph of the step, smooth, for an attacker; otherwise the shift is a constant.
        """
        if not len(directions):
            return features
        still, weights = (features, log_weights.exp()) if unroll else (features.detach(), log_weights.detach().exp())

        def loss(coefficients: Tensor) -> Tensor:
            logits = self.backbone.classify(still + coefficients @ directions, prompts)
            return (weights * entropy(logits)).sum()

        start = directions.new_zeros(1, len(directions)).requires_grad_()
        gradient = gradient_at(loss, start, unroll=unroll)
        step = first_adamw_step(start.detach(), gradient, lr=self.lr, smooth=unroll)
        return features + step @ directions

    def _answer(self, images: Tensor, prompts: PromptSet, *, unroll: bool) -> Tensor:
        count, augmix = int(self.deviations["views"]), self.deviations["augmix"] == "chains"
        views = draw_views(images, self.draws, count, augmix=augmix)
        features = view_features(self.backbone, images, views, self.attack_views)
        log_weights = self.log_weights(features)
        samples = zip(features, self.directions(features), log_weights, strict=True)
        steered = torch.stack([self.steered(*sample, prompts, unroll=unroll) for sample in samples])
        logits = self.backbone.classify(steered, prompts)
        return (log_weights[..., None] + logits.log_softmax(-1)).logsumexp(1)
