"""The loss of TAPT's preparation (Wang et al. 2025, section 3.2; Zhang et al. 2024, APT, eq. 4)."""

import torch.nn.functional as F
from torch import Tensor


def prompted(logits: Tensor, labels: Tensor) -> Tensor:
    """mean_i CE(z(x_i; P), y_i) of logits [B, K] under the prompts P, on adversarial pictures or on clean ones."""
    return F.cross_entropy(logits, labels)
