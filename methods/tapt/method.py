"""TAPT (Wang, Chen, Zhang, Chen, Ma, CVPR 2025, arXiv 2411.13136): robust prompts, tuned once more on each image.

From prompts P tuned in advance, one step on the six most certain of 64 views:
L = H(mean_i p_i) + a L_adv + (1 - a) L_clean, L = sum_l |mu_l - mu^_l|_1 + |var_l - var^_l|_1,
where mu^, var^ are those of clean pictures under the robust prompts (adv) and under clean ones (clean).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.learned_prompts import CONTEXT
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.visual_prompts import TokenStatistics, image_transformer, visual_prompts

from ..base import Defence
from ..prompt_tuning import first_adamw_step, marginal_entropy, view_logits
from ..views import Views, draw_views, most_certain, pick, view_features
from .pretuned import DeepPrompts, Pretuned, untrained

VIEWS = 64
IMAGES_AT_ONCE = 16  # in the step, with six views each: bounds the memory
ALIGNMENT_WEIGHT = 100.0  # DISTR_LOSS_W of the code


class TAPT(Defence):
    """Tunes visual prompts (V), visual and textual ones (VLI), or textual ones and their projections to visual (VLJ).

    One step on the views of each image, from the same prompts for all images.

    Args:
        pretuned: prompts and statistics to start from; default: the checkpoint of this backbone.
        share: of the views, the most certain, that the loss sees.
        alpha: a, weight of the robust statistics against the clean ones.
        lr: of the one AdamW step.

    Attributes:
        at_inference: switches that need no checkpoint of their own.

    Raises:
        UnavailableError: the image tower is no transformer, or there is no checkpoint for it.
    """

    at_inference: ClassVar[frozenset[str]] = frozenset({"snapshot", "alignment", "words"})

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        pretuned: Pretuned | None = None,
        share: float = 0.1,
        alpha: float = 0.5,
        lr: float = 5e-4,
    ) -> None:
        super().__init__(backbone, deviations)
        self.share, self.alpha, self.lr = share, alpha, lr
        image_transformer(backbone)
        variant, normed = self.deviations["variant"], self.deviations["first_tokens"] == "layer-norm"
        self.pretuned = pretuned or Pretuned.load(backbone, variant, normed=normed)
        self.start = replace(self.pretuned.prompts, normed=normed)
        if self.deviations["snapshot"] == "as_released" and variant != "VLJ":
            # Copied before the weights were loaded: only the first layer's context has been learned. VLJ copies later.
            self.start = replace(untrained(backbone, variant, normed=normed), context=self.start.context)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. The tuned prompts are a constant to autograd."""
        prompts = self.sentences(prompts)
        with torch.no_grad():
            tuned = self.tune(images, prompts)
        return tuned.logits(self.backbone, images[:, None], prompts)[:, 0]

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Differentiable as it is; EOT averages over the views."""
        return self.forward(images, prompts)

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Also through the loss and the step, which moves nearly by lr sign(g): a second derivative on six views."""
        prompts = self.sentences(prompts)
        tuned = self.tune(images, prompts, unroll=True)
        return tuned.logits(self.backbone, images[:, None], prompts)[:, 0]

    def sentences(self, prompts: PromptSet) -> PromptSet:
        """What the text tower reads where no text is learned; learned context always stands for CONTEXT."""
        if self.deviations["words"] == "dataset":
            return prompts
        return PromptSet.from_templates(list(prompts.class_names), [f"{CONTEXT} {{c}}."])

    def tune(self, images: Tensor, prompts: PromptSet, *, unroll: bool = False) -> DeepPrompts:
        """Images [B, 3, H, W] -> prompts after the step, a set for each image; `unroll` keeps the graph."""
        views = draw_views(images, self.draws, VIEWS)
        chosen = self.certain_views(images, views, prompts)
        parts = [slice(i, i + IMAGES_AT_ONCE) for i in range(0, len(images), IMAGES_AT_ONCE)]
        # The other attention kernels have no second derivative; the same one always gives the same values.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            inputs = images if unroll else images.detach()
            tuned = [self._step(inputs[p], views[p], chosen[p], prompts, unroll) for p in parts]
        return self.start.of({name: torch.cat([t.tensors[name] for t in tuned]) for name in self.start.tensors})

    def certain_views(self, images: Tensor, views: Views, prompts: PromptSet) -> Tensor:
        """Indices [B, n] of the views of lowest entropy under the prompts at the start, without a graph."""
        with torch.no_grad(), visual_prompts(self.backbone, self.start.visual_tokens, normed=self.start.normed):
            features = view_features(self.backbone, images.detach(), views)
            weights = self.start.class_weights(self.backbone, prompts)
            return most_certain(view_logits(self.backbone, features, weights), self.share)

    def loss(self, logits: Tensor, now: TokenStatistics) -> Tensor:
        """Logits [B, n, K] of the chosen views and the statistics of their tokens -> L [B]."""
        robust, clean = (self.distance(now, kept) for kept in (self.pretuned.robust, self.pretuned.clean))
        return marginal_entropy(logits) + self.alpha * robust + (1 - self.alpha) * clean

    def distance(self, now: TokenStatistics, kept: TokenStatistics) -> Tensor:
        """Statistics [B, layers, tokens, W] and [1, layers, tokens, W] -> how far they lie apart [B]."""
        mean, variance = (now.mean - kept.mean).abs(), (now.variance - kept.variance).abs()
        if self.deviations["alignment"] == "paper":
            return (mean + variance).flatten(1).sum(1)
        depth = self.start.visual_tokens.shape[1]  # 9 in the code, whose range(0, 9 - 1) forgets the last layer
        return ALIGNMENT_WEIGHT / depth * ((mean + variance) / 2)[:, : depth - 1].mean((2, 3)).sum(1)

    def _step(self, images: Tensor, views: Views, chosen: Tensor, prompts: PromptSet, unroll: bool) -> DeepPrompts:
        own, tokens = self.start.repeated(len(images)), []  # type: tuple[DeepPrompts, list[Tensor]]
        seen = pick(views.render(images, self.backbone.image_size), chosen)
        logits = own.logits(self.backbone, seen, prompts, tokens)
        unbiased = self.deviations["alignment"] == "paper"
        loss = self.loss(logits, TokenStatistics.of(tokens, chosen.shape[1], unbiased=unbiased)).sum()
        gradients = torch.autograd.grad(loss, list(own.tensors.values()), create_graph=unroll)
        with torch.set_grad_enabled(unroll):
            moved = [
                first_adamw_step(tokens, gradient, lr=self.lr, smooth=unroll)
                for tokens, gradient in zip(own.tensors.values(), gradients, strict=True)
            ]
        return own.of(dict(zip(own.tensors, moved, strict=True)))
