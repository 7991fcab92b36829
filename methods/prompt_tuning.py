"""One step of test-time prompt tuning: each image gets its own context, from the same words (TPT, R-TPT)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vlm_gauntlet.attacks.adaptive.straight_through import straight_through
from vlm_gauntlet.attacks.adaptive.unrolling import soft_sign
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.learned_prompts import CONTEXT, prompted_text_features, word_vectors
from vlm_gauntlet.fixtures.prompts import PromptSet

from .views import entropy, most_certain, pick

SENTENCES_AT_ONCE = 1024  # in the text encoder: bounds the memory


def mean_entropy(logits: Tensor) -> Tensor:
    """Logits [B, n, K] of views -> mean of their entropies [B] (R-TPT: pointwise)."""
    return entropy(logits).mean(1)


def marginal_entropy(logits: Tensor) -> Tensor:
    """Logits [B, n, K] of views -> entropy [B] of their mean probability (TPT)."""
    return entropy(logits.log_softmax(-1).logsumexp(1))


def initial_prompts(prompts: PromptSet) -> PromptSet:
    """The sentences that the step starts from, one a class."""
    return PromptSet.from_templates(list(prompts.class_names), [CONTEXT + " {}."])


def view_logits(backbone: Backbone, features: Tensor, text: Tensor) -> Tensor:
    """Unit features [B, N, D] and each sample's class weights [B, K, D] -> logits [B, N, K]."""
    return backbone.logit_scale * features @ text.mT


def tuned_text_features(
    backbone: Backbone,
    prompts: PromptSet,
    features: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    share: float,
    lr: float,
    unroll: bool = False,
) -> Tensor:
    """Class weights [B, K, D] of unit length after one AdamW step on each sample's context.

    The context starts as the words "a photo of a" for every sample and is forgotten afterwards.

    Args:
        backbone: frozen; its text encoder reads the context.
        prompts: the classes; their own sentences are not used.
        features: unit features [B, N, D] of the views.
        loss: logits [B, n, K] of the kept views -> [B], minimised.
        share: of the views, those of lowest entropy under the initial words, that the loss sees.
        lr: length of the step.
        unroll: keep the graph of the step, smooth, for an attacker; otherwise the result is a constant.
    """

    def tune(features: Tensor) -> Tensor:
        context = word_vectors(backbone).repeat(len(features), 1, 1).requires_grad_()
        logits = view_logits(backbone, features, prompted_text_features(backbone, prompts, context))
        kept = pick(logits, most_certain(logits, share))
        (gradient,) = torch.autograd.grad(loss(kept).sum(), context, create_graph=unroll)
        with torch.set_grad_enabled(unroll):
            stepped = first_adamw_step(context, gradient, lr=lr, smooth=unroll)
            return prompted_text_features(backbone, prompts, stepped)

    step = max(1, SENTENCES_AT_ONCE // len(prompts))
    features = features if unroll else features.detach()
    # The other attention kernels have no second derivative; the same one always gives the same values.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        tuned = torch.cat([tune(part) for part in torch.split(features, step)])
    return tuned if unroll else tuned.detach()


def first_adamw_step(
    parameter: Tensor,
    gradient: Tensor,
    *,
    lr: float,
    weight_decay: float = 0.01,
    eps: float = 1e-8,
    smooth: bool = False,
) -> Tensor:
    """Where AdamW goes from a fresh state, for parameters [B, ...] of B samples at once (Loshchilov and Hutter 2019).

    After bias correction the moments of one gradient are g and g^2: the step is nearly lr sign(g), and its derivative
    eps / (|g| + eps)^2 nearly zero. `smooth` keeps the value and differentiates like `soft_sign`.
    """
    direction = gradient / (gradient.abs() + eps)
    if smooth:
        direction = straight_through(direction, soft_sign(gradient))
    return parameter * (1 - lr * weight_decay) - lr * direction
