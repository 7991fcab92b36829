"""CLIPure-Diff (Zhang et al., ICLR 2025, arXiv 2502.18176): the image embedding descends a diffusion prior's loss.

The loss stands in for -log p(z): one noise and one timestep in 900..999 for each of ten steps on the unit sphere.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from .null_text import NullText, null_text
from .prior import Condition, Prior
from .weights import load_prior

STEP = {"paper-intent": 0.1, "as_coded": 30.0}
FIRST, LAST = 900, 999  # the timesteps that are drawn, both included
DROP = 0.1  # of text and image, each on its own, where `null` is `dropped`


class CLIPureDiff(Defence):
    """Purifies the embedding by descent on a diffusion prior's denoising loss, then classifies.

    Args:
        backbone: the model to defend; a prior belongs to exactly one space of embeddings.
        iterations: descent steps.
        step: length of a step on the unit gradient; default: what the deviation `step` names.
        prior: default: the one pinned for this backbone.

    Attributes:
        at_inference: all switches: they change the purification, never the prior.

    Raises:
        UnavailableError: no prior for this backbone; says which file is expected, and how to train one.
    """

    at_inference: ClassVar[frozenset[str]] = frozenset({"step", "norm", "timesteps", "null", "encoder"})

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        iterations: int = 10,
        step: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        super().__init__(backbone, deviations)
        self.iterations = iterations
        self.step = STEP[self.deviations["step"]] if step is None else step
        self.prior = (load_prior(backbone) if prior is None else prior).eval().requires_grad_(False)

    @property
    def batch_coupled(self) -> bool:
        """The batch-wide norm and the shared timestep make one image's step depend on its neighbours."""
        return self.deviations["norm"] == "batch" or self.deviations["timesteps"] == "shared"

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. To autograd each step is a constant, as in the official code."""
        features = self._encode(images)
        if self.deviations["encoder"] == "no_grad":
            features = features.detach()
        return self.backbone.classify(self.purify(features), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Identity through the purification, on an encoder that differentiates even where the released one does not."""
        return self.backbone.classify(identity_backward(self.purify, self._encode(images)), prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through all evaluations of the prior: each step's gradient keeps its own graph."""
        return self.backbone.classify(self.purify(self._encode(images), follow=True), prompts)

    def purify(self, features: Tensor, *, follow: bool = False) -> Tensor:
        """Unit features [B, D] -> purified unit features [B, D]; with `follow`, differentiable to second order."""
        for _ in range(self.iterations):
            timesteps, noise = self._timesteps(features), self.draws.normal(features)
            gradient = self._gradient(features, timesteps, noise, self._condition(features), follow)
            if self.deviations["norm"] == "batch":
                gradient = gradient / gradient.norm()
            else:
                gradient = F.normalize(gradient, dim=-1)
            features = F.normalize(features - self.step * gradient, dim=-1)
        return features

    def null_text(self) -> NullText:
        """What stands for no text where `null` is `dropped`."""
        return null_text(self.backbone)

    def _encode(self, images: Tensor) -> Tensor:
        return F.normalize(self.backbone.encode_image(images), dim=-1)

    def _timesteps(self, features: Tensor) -> Tensor:
        uniform = self.draws.uniform(features[:, 0], FIRST, LAST + 1)
        if self.deviations["timesteps"] == "shared":
            owner = min(range(len(uniform)), key=lambda i: self.draws.keys[i])  # whatever the order of the batch
            uniform = uniform[owner].expand(len(uniform))
        return uniform.long().clamp(max=LAST)

    def _condition(self, features: Tensor) -> Condition:
        if self.deviations["null"] == "null":
            return Condition.null(features)
        told = self.null_text()
        keep_text, keep_image = (self.draws.uniform(features[:, 0], 0, 1) >= DROP for _ in range(2))
        return Condition(
            told.embedding.to(features).expand_as(features), keep_text, keep_image, told.words.to(features)
        )

    def _gradient(
        self, features: Tensor, timesteps: Tensor, noise: Tensor, condition: Condition, follow: bool
    ) -> Tensor:
        follow = follow and features.requires_grad
        with torch.enable_grad():
            leaf = features if follow else features.detach().requires_grad_()
            loss = self.prior.loss(leaf, timesteps, noise, condition).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=follow)
        return gradient
