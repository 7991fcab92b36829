"""DBD (Liu et al., ICLR 2026, arXiv 2606.06186): the feature goes where the image's transformed views agree to go.

Views f_1..f_31 of an image with feature f_0; of them the 16 that the model is surest of. With d_i = f_i - f_0:
    d = mean_i d_i                       the defence direction
    s = mean_i cos(d_i, d)               the DB-score: near one where all views leave the image the same way
    f = f_0 + lambda d,  lambda = 2.5 where s > 0.8, else 1
An attack moves f_0 away from the true class; the views go back, and lambda overshoots: whoever was pushed away from
the truth lands deeper in it than a clean image does. So the answer reads the label that the attacker put in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..views import AT_ONCE, Views, draw_views, entropy, pick
from . import transforms

CROPS, NOISY, SAME = 16, 6, 3  # SAME: the views of 3 bits are equal, one of them is encoded


@dataclass(frozen=True)
class Drawn:
    """What is random of the views of a batch.

    Args:
        crops: boxes and flips.
        noise: standard normal, [B, 6, 3, H, W].
    """

    crops: Views
    noise: Tensor

    def __getitem__(self, samples: slice) -> "Drawn":
        return Drawn(self.crops[samples], self.noise[samples])


class DBD(Defence):
    """Moves the feature along the mean shift of its surest views.

    Args:
        keep: how many views, those of the lowest entropy, tell the direction.
        threshold: of the DB-score, above which an image is taken for attacked.
        strengths: lambda below and above it.
        sigma: standard deviation of the noise, in [0,1] pixels.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        keep: int = 16,
        threshold: float = 0.8,
        strengths: tuple[float, float] = (1.0, 2.5),
        sigma: float = 0.1,
    ) -> None:
        super().__init__(backbone, deviations)
        self.keep, self.threshold, self.strengths, self.sigma = keep, threshold, strengths, sigma

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. Bits and JPEG stop the gradient of their views."""
        return self._answer(images, prompts, passed=False)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The identity through bits, JPEG and median; exact for the rest, the two strengths being constants."""
        return self._answer(images, prompts, passed=True)

    def gate_margin(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """DB-score minus threshold: below it nothing overshoots."""
        return self.score(self.shifts(images, prompts, passed=True)[1]) - self.threshold

    def _answer(self, images: Tensor, prompts: PromptSet, *, passed: bool) -> Tensor:
        start, shifts = self.shifts(images, prompts, passed=passed)
        return self.backbone.classify(start + self.strength(shifts)[:, None] * shifts.mean(1), prompts)

    def score(self, shifts: Tensor) -> Tensor:
        """Shifts d_i [B, n, D] -> DB-score [B]."""
        return F.cosine_similarity(shifts, shifts.mean(1, keepdim=True), dim=-1).mean(1)

    def strength(self, shifts: Tensor) -> Tensor:
        """Shifts [B, n, D] -> lambda [B]."""
        low, high = self.strengths
        attacked = self.score(shifts) > self.threshold
        if self.deviations["strength"] == "one":
            return torch.full_like(shifts[:, 0, 0], low)
        return torch.where(attacked, high, low)

    def shifts(self, images: Tensor, prompts: PromptSet, *, passed: bool) -> tuple[Tensor, Tensor]:
        """Images -> unit features f_0 [B, D] and the shifts d_i [B, keep, D] of the surest views."""
        drawn = Drawn(
            draw_views(images, self.draws, 1 + CROPS),
            self.draws.normal(images[:, None].expand(-1, NOISY, -1, -1, -1)),
        )
        features = self._features(images, drawn, passed=passed)
        start, views = features[:, 0], features[:, 1:]
        doubt = entropy(self.backbone.classify(views.detach(), prompts))
        surest = doubt.topk(self.keep, dim=1, largest=False).indices
        return start, pick(views, surest) - start[:, None]

    def _features(self, images: Tensor, drawn: Drawn, *, passed: bool) -> Tensor:
        """Unit features [B, 32, D]: image, crops, other views; a few samples at a time, whose graph is recomputed."""
        size = self.backbone.image_size

        def encode(images: Tensor, drawn: Drawn) -> Tensor:
            noisy = (images[:, None] + self.sigma * drawn.noise).clamp(0, 1)
            pixels = torch.cat([noisy, transforms.deterministic(images, passed=passed)], dim=1)
            if images.shape[-2:] != (size, size):  # as the backbone itself does
                flat = F.interpolate(pixels.flatten(0, 1), size=(size, size), mode="bicubic", align_corners=False)
                pixels = flat.view(*pixels.shape[:3], size, size)
            views = torch.cat([drawn.crops.render(images, size), pixels], dim=1)
            features = F.normalize(self.backbone.encode_image(views.flatten(0, 1)).float(), dim=-1)
            return features.view(len(images), views.shape[1], -1)

        step = max(1, AT_ONCE // (1 + CROPS + NOISY + transforms.COUNT))
        parts = [slice(i, i + step) for i in range(0, len(images), step)]
        if torch.is_grad_enabled() and images.requires_grad:
            found = [checkpoint(encode, images[p], drawn[p], use_reentrant=False) for p in parts]
        else:
            found = [encode(images[p], drawn[p]) for p in parts]
        features = torch.cat(found)
        copies = torch.ones(features.shape[1], dtype=torch.long, device=features.device)
        copies[1 + CROPS + NOISY] = SAME
        return features.repeat_interleave(copies, dim=1)
