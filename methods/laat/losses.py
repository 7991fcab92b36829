"""The losses of LAAT (Li et al. 2024): alignment cross-entropy, smoothness, and TRADES, which its code offers too."""

import torch.nn.functional as F
from torch import Tensor


def alignment(cosines: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """A-CE: mean_i CE(cos(v(x_i), anchors) / temperature, y_i).

    Args:
        cosines: [B, K], of images and anchors.
        labels: [B].
        temperature: the deviation of that name.
    """
    return F.cross_entropy(cosines / temperature, labels)


def smoothness(clean: Tensor, adversarial: Tensor) -> Tensor:
    """-mean_i cos(v(x_i), v(x_i + delta_i)): features [B, D] of clean and adversarial images, of any length."""
    return -F.cosine_similarity(clean, adversarial, dim=-1).mean()


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """TRADES: mean_i KL(softmax(clean_i) || softmax(adversarial_i)), of logits [B, K]."""
    return F.kl_div(adversarial.log_softmax(-1), clean.log_softmax(-1), reduction="batchmean", log_target=True)
