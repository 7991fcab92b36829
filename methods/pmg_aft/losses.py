"""The losses of PMG-AFT (Wang et al. 2024, section 3): adversarial, and two divergences that guide it."""

import torch.nn.functional as F
from torch import Tensor


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """KL(p || q) = mean_i sum_k p_ik (log p_ik - log q_ik) of the softmax of two tables of logits [B, K]."""
    return F.kl_div(second.log_softmax(1), first.log_softmax(1), reduction="batchmean", log_target=True)


def guided(
    attacked: Tensor, general: Tensor, clean: Tensor, labels: Tensor, *, reference_first: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """L = L_robust + L_general + L_clean, the three terms, each a mean over the samples.

    L_robust = CE(p_s(x_adv), y); L_general = KL(p_t(x_adv) || p_s(x_adv)); L_clean = KL(p_s(x) || p_s(x_adv)).

    Args:
        attacked: [B, K], logits of the tuned model for attacked images.
        general: [B, K], those of the original model for the same images.
        clean: [B, K], those of the tuned model for clean images.
        labels: [B].
        reference_first: False: both divergences with their arguments exchanged, KL(p_s(x_adv) || .).
    """
    pairs = [(general, attacked), (clean, attacked)]
    to_general, to_clean = (divergence(*(pair if reference_first else pair[::-1])) for pair in pairs)
    return F.cross_entropy(attacked, labels), to_general, to_clean
