"""CLIPure-Cos (Zhang et al., ICLR 2025, arXiv 2502.18176): the image embedding climbs towards a null prompt's.

Gradient of the cosine at a unit vector u:  d cos(u, t) / du = t - cos(u, t) u,  of norm sin(theta).
Every iterate stays in the plane span(z_0, t): the method re-weights one direction, whatever its step.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import straight_through
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence

STEP = {"paper-intent": 0.1, "as_coded": 30.0, "tuned": 0.03}  # the other choices are numbers


class CLIPureCos(Defence):
    """Purifies the embedding by ascent on its cosine with the null prompt, then classifies.

    Args:
        iterations: ascent steps. Their parity decides what the released step does: ten undo each other in pairs.
        step: length of a step on the unit gradient; default: what the deviation `step` names.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        iterations: int = 10,
        step: float | None = None,
    ) -> None:
        super().__init__(backbone, deviations)
        self.iterations = iterations
        chosen = self.deviations["step"]
        self.step = float(STEP.get(chosen, chosen)) if step is None else step

    @property
    def batch_coupled(self) -> bool:
        """The batch-wide norm makes one image's step depend on its neighbours."""
        return self.deviations["norm"] == "batch"

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        features = F.normalize(self._encode(images), dim=-1)
        return self.backbone.classify(self.purify(features), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Identity through the purification: exact when the steps cancel, alive where the released gradient is dead."""
        features = F.normalize(self._encode(images), dim=-1)
        with torch.no_grad():
            purified = self.purify(features)
        return self.backbone.classify(straight_through(purified, features), prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through the closed form of every step, in fp32, where the released graph is cut."""
        with torch.no_grad():
            value = self.forward(images, prompts)
        features = F.normalize(self.backbone.encode_image(images), dim=-1)
        return straight_through(value, self.backbone.classify(self.purify(features, closed_form=True), prompts))

    def null_prompt(self) -> Tensor:
        """Unit embedding [D] of a sentence that names nothing."""
        if self.deviations["null_prompt"] == "single":
            sentences: tuple[str, ...] = ("a photo of a.",)
        else:
            from open_clip import OPENAI_IMAGENET_TEMPLATES  # slow to import

            sentences = tuple(template("") for template in OPENAI_IMAGENET_TEMPLATES)
        # A prompt set of one null class beside itself: the backbone caches it by digest.
        return self.backbone.text_features(PromptSet(("null", "null"), (sentences, sentences)))[0]

    def purify(self, features: Tensor, *, closed_form: bool = False) -> Tensor:
        """Unit features [B, D] -> purified unit features [B, D]; differentiable where the closed form is asked for."""
        target = self.null_prompt()
        for _ in range(self.iterations):
            if closed_form or self.deviations["graph"] == "second-order":
                gradient = cosine_gradient(features, target)
            else:
                gradient = released_gradient(features, target)
            if self.deviations["norm"] == "batch":
                gradient = gradient / gradient.norm()
            else:
                gradient = F.normalize(gradient, dim=-1)
            features = F.normalize(features + self.step * gradient, dim=-1)
        return features

    def _encode(self, images: Tensor) -> Tensor:
        if self.deviations["precision"] == "fp32":
            return self.backbone.encode_image(images)
        # fp16 on every device: its underflow makes the released gradient exactly zero, bf16 would keep it alive.
        with torch.autocast(images.device.type, torch.float16):
            return unless_zero(self.backbone.encode_image(images), images).float()


class _UnlessZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, images: Tensor) -> Tensor:
        ctx.images = images.shape, images.dtype
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,), (shape, dtype) = gradients, ctx.images
        if gradient.any():
            return gradient, None
        return None, gradient.new_zeros(shape, dtype=dtype)


def unless_zero(features: Tensor, images: Tensor) -> Tensor:
    """The features [B, D] of these images; a gradient that is zero for the whole batch takes no pass of the tower."""
    passed: Tensor = _UnlessZero.apply(features, images)  # type: ignore[no-untyped-call]
    return passed


def cosine_gradient(features: Tensor, target: Tensor) -> Tensor:
    """Gradient [B, D] of cos(u, t) at unit vectors u [B, D]: t - cos(u, t) u."""
    return target - (features @ target)[:, None] * features


def released_gradient(features: Tensor, target: Tensor) -> Tensor:
    """The same by autograd without a graph of its own, as released: the attacker's gradient sees a constant."""
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        cosine = F.cosine_similarity(leaf, target[None], dim=-1).sum()
    (gradient,) = torch.autograd.grad(cosine, leaf)
    return gradient
