"""MAC (Kim, Um, CVPR 2026, arXiv 2606.06938): two views attack themselves back, the more, the less stable they are.

Views v of an image: itself and one weak view T(x). For each, with another weak view T' of it:
    d(v) = |f(T'(v)) - f(v)| / |f(v)|            the corruption degree
    w(v) = sigmoid((d(v) - tau) / kappa)         the soft weight: near one where the feature moves by more than tau
    delta <- delta + alpha sign grad |f(v + delta) - f(v)|^2,  K times, inside eps and the box, from uniform noise
and the answer is the mean over the views of the logits at v + w(v) delta(v). TTC counterattacks the images that noise
hardly moves; here it is the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at, soft_sign
from vlm_gauntlet.attacks.balls import per_sample, project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from .weak_view import weak_views

VIEWS = 2


@dataclass(frozen=True)
class Weighed:
    """The views of a batch, flattened, and what the counterattack needs of them.

    Args:
        views: [B * 2, 3, H, W].
        still: f(v) [B * 2, D], not of unit length.
        corruption: d(v) [B * 2].
        start: the noise that the ascent starts from, inside ball and box.
    """

    views: Tensor
    still: Tensor
    corruption: Tensor
    start: Tensor


class MAC(Defence):
    """Counterattacks an image and a weak view of it, softly weighed, and averages their logits.

    Args:
        eps, step_size: budget and step of the counterattack in [0,1] pixels.
        steps: K, ascent steps.
        threshold: tau, of the corruption degree.
        temperature: kappa, how softly the weight turns from none to all.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        eps: float = 8 / 255,
        step_size: float = 2 / 255,
        steps: int = 4,
        threshold: float = 0.7,
        temperature: float = 0.01,
    ) -> None:
        super().__init__(backbone, deviations)
        self.eps, self.step_size, self.steps = eps, step_size, steps
        self.threshold, self.temperature = threshold, temperature

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. As in the official code, the moves are constants to autograd: made on detached views."""
        weighed = self.weigh(images, graph=False)
        with torch.no_grad():
            move = self.move(weighed)
        return self._mean(weighed.views + move, images, prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Straight-through on v + w delta, as the authors' BPDA: exact but for the weight, which is nearly a step."""
        return self.forward(images, prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through the K steps, with second-order gradients, and through the weight."""
        weighed = self.weigh(images)
        return self._mean(weighed.views + self.move(weighed, unroll=True), images, prompts)

    def gate_margin(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The larger corruption degree of the two views, less tau: below it neither is moved."""
        return self.weigh(images).corruption.view(len(images), VIEWS).amax(1) - self.threshold

    def branch_logits(self, images: Tensor, prompts: PromptSet) -> Sequence[tuple[float, Tensor]]:
        """Each view's logits, with moves that are constants."""
        weighed = self.weigh(images, graph=False)
        with torch.no_grad():
            move = self.move(weighed)
        logits = self.backbone(weighed.views + move, prompts).view(len(images), VIEWS, -1)
        return [(1 / VIEWS, logits[:, view]) for view in range(VIEWS)]

    def _mean(self, countered: Tensor, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(countered, prompts).view(len(images), VIEWS, -1).mean(1)

    def weigh(self, images: Tensor, *, graph: bool = True) -> Weighed:
        """Images [B, 3, H, W] -> their views with corruption degree, and the noise: all that is drawn, in this order.

        Without `graph` only the views, not their features, are differentiable.
        """
        views = torch.stack([images, weak_views(images, self.draws)], dim=1)
        weak = weak_views(views, self.draws).flatten(0, 1)
        noise = self.draws.uniform(views, -self.eps, self.eps).flatten(0, 1)
        views = views.flatten(0, 1)
        with torch.set_grad_enabled(graph and torch.is_grad_enabled()):
            still, moved = self.backbone.encode_image(views).float(), self.backbone.encode_image(weak).float()
        corruption = torch.linalg.vector_norm(moved - still, dim=1) / torch.linalg.vector_norm(still, dim=1)
        return Weighed(views, still, corruption, (views + noise).clamp(0, 1) - views)

    def weight(self, corruption: Tensor) -> Tensor:
        """d [N] -> w [N]."""
        if self.deviations["weight"] == "soft":
            return torch.sigmoid((corruption - self.threshold) / self.temperature)
        return torch.full_like(corruption, {"all": 1.0, "none": 0.0}[self.deviations["weight"]])

    def move(self, weighed: Weighed, *, unroll: bool = False) -> Tensor:
        """w delta [B * 2, 3, H, W]: sign ascent on the squared distance of unnormalised features, then weighed."""
        views, still = weighed.views, weighed.still
        if not unroll:
            views, still = views.detach(), still.detach()

        def distance(delta: Tensor) -> Tensor:
            return (self.backbone.encode_image(views + delta).float() - still).square().sum()

        delta = weighed.start if unroll else weighed.start.detach()
        for _ in range(self.steps):
            step = self.step_size * soft_sign(gradient_at(distance, delta, unroll=unroll))
            delta = project(views + delta + step, views, norm="linf", eps=self.eps) - views
        return per_sample(self.weight(weighed.corruption), delta) * delta
