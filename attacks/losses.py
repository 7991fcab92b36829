"""Losses that an attacker maximises. Each returns one value a sample [B]; the attack sums over the batch."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """CE of each sample."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Best wrong logit minus the true one: positive exactly when misclassified."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    wrong = logits.scatter(1, labels[:, None], float("-inf")).amax(1)
    return wrong - true


def probability_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin of the softmax probabilities, from -1 to 1 (Xie et al. 2025, arXiv 2411.15210: the loss of PMA)."""
    return margin(logits.softmax(1), labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, eq. 6). Needs three classes."""
    ordered = logits.sort(dim=1, descending=True).values
    return margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def cw(logits: Tensor, labels: Tensor, kappa: float) -> Tensor:
    """-relu(z_y - max_other z + kappa), what CLIP papers call CW: it rests at 0 once the margin reaches kappa.

    They take kappa = 50 (TeCoA attacks.py:56-106). With 0 an attack stops at the decision boundary.
    """
    return -F.relu(kappa - margin(logits, labels))


def lead(target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the target classes [B] minus the true one."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)


def targeted_cross_entropy(target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of the target classes [B]."""
    return -cross_entropy(logits, target)


def targeted_dlr(target: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio towards the target classes [B] (Croce and Hein 2020, eq. 7). Needs four classes."""
    ordered = logits.sort(dim=1, descending=True).values
    return lead(target, logits, labels) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12)


def averaged(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """A loss over the batch's size, so that its sum is the mean; in half precision its gradients may vanish."""
    return loss(logits, labels) / len(labels)


def wrong_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """All classes but the true one [B, K - 1], the likeliest first; of equal logits the class of lower index."""
    hidden = logits.scatter(1, labels[:, None], float("-inf"))
    return hidden.argsort(dim=1, descending=True, stable=True)[:, :-1]


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "pm": probability_margin}
TARGETED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ce-targeted": targeted_cross_entropy,
    "dlr-targeted": targeted_dlr,
}
