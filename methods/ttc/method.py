"""TTC (Xing, Zhao, Sebe, CVPR 2025, arXiv 2503.03613): the model attacks the image back, away from where it stands.

An adversarial image sits where small noise hardly moves its feature ("false stability"); pushing it away undoes that.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward, straight_through
from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at, soft_sign
from vlm_gauntlet.attacks.balls import lp_norm, per_sample, project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence


class TTC(Defence):
    """Counterattacks the images whose feature hardly drifts under noise.

    Args:
        eps, step_size: budget and step of the counterattack in [0,1] pixels.
        steps: N, ascent steps.
        threshold: images with a relative drift tau below it are counterattacked.
        beta: sharpness of the weights over the iterates.
        norm: `linf`, or the `l2` branch that the official code carries unused.
        gate_backbone: the original tower, which measures tau when `backbone` is fine-tuned.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        eps: float = 4 / 255,
        steps: int = 2,
        step_size: float = 1 / 255,
        threshold: float = 0.2,
        beta: float = 2.0,
        norm: str = "linf",
        gate_backbone: Backbone | None = None,
    ) -> None:
        super().__init__(backbone, deviations)
        self.eps, self.steps, self.step_size, self.norm = eps, steps, step_size, norm
        self.threshold, self.beta = threshold, beta
        self.gate_backbone = gate_backbone

    @classmethod
    def over(cls, tower: Backbone, original: Backbone, deviations: Mapping[str, str]) -> "TTC":
        """The gate keeps the original tower, as the official code has it for fine-tuned towers."""
        return cls(tower, deviations, gate_backbone=original)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. As in the official code, D is a constant to autograd: it was made on detached images."""
        with torch.no_grad():
            counter = self.counterattack(images.detach()) - images.detach()
        with self._precision(images):
            return self.backbone(images + counter, prompts).float()

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Straight-through on x + D(x): exact almost everywhere, since D is piecewise constant between sign flips."""
        return self._answer(identity_backward(self.counterattack, images), images, prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Through the N steps, with second-order gradients. The gate stays hard: `gate_margin` evades it."""
        return self._answer(self.counterattack(images, unroll=True), images, prompts)

    def gate_margin(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Threshold minus tau(x): an image that drifts enough is left alone but for the noise."""
        start = self._start(images)
        anchor = self.backbone.encode_image(images)
        noisy = self.backbone.encode_image(images + start)
        return self.threshold - self._drift(images, start, noisy, anchor)

    def _answer(self, countered: Tensor, images: Tensor, prompts: PromptSet) -> Tensor:
        """Logits at x + D, with gradients in fp32."""
        logits = self.backbone(countered, prompts)
        if self.deviations["precision"] == "fp32":
            return logits
        # Values of the autocast defence, gradient in fp32: an fp16 graph without loss scaling may underflow.
        with torch.no_grad(), self._precision(images):
            value = self.backbone(countered, prompts).float()
        return straight_through(value, logits)

    def weights(self) -> Tensor:
        """w_i ~ exp(beta i), i = 0..N, summing to one: 0.016, 0.117, 0.867 at N = 2, beta = 2."""
        return torch.softmax(self.beta * torch.arange(self.steps + 1.0), dim=0)

    def counterattack(self, images: Tensor, *, unroll: bool = False) -> Tensor:
        """Images [B, 3, H, W] -> x + D, inside [0,1]."""
        start = self._start(images)
        if self.steps == 0:  # the RN baseline
            return images + start
        with torch.set_grad_enabled(unroll), self._precision(images):
            anchor = self.backbone.encode_image(images).float()
        iterates, noisy = self._ascend(images, start, anchor, unroll=unroll)
        weighted = sum(w * d for w, d in zip(self.weights().tolist(), iterates, strict=True))
        with torch.no_grad():
            gate = per_sample(self._drift(images, start, noisy, anchor) < self.threshold, images)
        # Between noise and nothing for images judged clean, the authors keep the noise on purpose.
        idle = start if self.deviations["gate_off"] == "noise" else torch.zeros_like(start)
        return (images + torch.where(gate, weighted, idle)).clamp(0, 1)

    def _start(self, images: Tensor) -> Tensor:
        if self.norm == "linf":
            noise = self.draws.uniform(images, -self.eps, self.eps)
        else:
            direction = self.draws.normal(images)
            radius = self.draws.uniform(images[:, 0, 0, 0], 0.0, self.eps)
            noise = direction * per_sample(radius / lp_norm(direction, "l2"), direction)
        return project(images + noise, images, norm=self.norm, eps=self.eps) - images

    def _ascend(self, images: Tensor, start: Tensor, anchor: Tensor, *, unroll: bool) -> tuple[list[Tensor], Tensor]:
        """d_0..d_N: sign ascent on the squared distance of unnormalised features, summed over the batch.

        Also the feature at d_0: the gate measures its drift, so tau costs no pass of its own.
        """
        iterates, features = [start], []

        def distance(delta: Tensor) -> Tensor:
            with self._precision(images):
                feature = self.backbone.encode_image(images + delta).float()
            features.append(feature.detach())
            return (feature - anchor).square().sum()

        for _ in range(self.steps):
            delta = iterates[-1]
            gradient = gradient_at(distance, delta, unroll=unroll)
            if self.norm == "linf":
                move = self.step_size * soft_sign(gradient)
            else:
                move = self.step_size * gradient / per_sample(lp_norm(gradient, "l2").clamp_min(1e-12), gradient)
            iterates.append(project(images + delta + move, images, norm=self.norm, eps=self.eps) - images)
        return iterates, features[0]

    def _drift(self, images: Tensor, start: Tensor, noisy: Tensor, still: Tensor) -> Tensor:
        """tau [B]: relative drift of the unnormalised feature under the very noise d_0 that starts the ascent."""
        if self.gate_backbone is not None:
            with self._precision(images):
                noisy = self.gate_backbone.encode_image(images + start).float()
                still = self.gate_backbone.encode_image(images).float()
        drift: Tensor = torch.linalg.vector_norm(noisy - still, dim=1) / torch.linalg.vector_norm(still, dim=1)
        return drift

    def _precision(self, images: Tensor) -> torch.autocast:
        """The official evaluation runs inside CUDA autocast (fp16); CPUs have bf16 instead."""
        kind = torch.float16 if images.is_cuda else torch.bfloat16
        return torch.autocast(images.device.type, kind, enabled=self.deviations["precision"] == "autocast")
