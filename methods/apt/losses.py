"""The loss of APT (Li et al. 2024, section 3.2): the same in both problems, the inner one raises it."""

import torch.nn.functional as F
from torch import Tensor


def adversarial(logits: Tensor, labels: Tensor) -> Tensor:
    """L = mean_i CE(scale * unit(v(x_i + d_i)) unit(t(V))^T, y_i): attacked pictures alone, no clean term.

    Args:
        logits: [B, K], scaled cosines of pictures and of class texts under the context V.
        labels: [B].
    """
    return F.cross_entropy(logits, labels)
