"""The losses of TIMA (Ma et al. 2024, 2026): energy, consistency, adaptive margins, distillation.

Neither paper's body could be read. The energy, its stable form and the two distillations are as described; the form of
the margins is ours, the simplest one that does what both abstracts say of it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def hyperspherical_energy(texts: Tensor, floor: float = 1.0) -> Tensor:
    """MHE: mean over j != k of 1 / (floor + |t_j - t_k|^2), for unit texts [K, D].

    With floor 1, the stable form, it is the mean of 1 / (3 - 2 cos(t_j, t_k)), within [1/5, 1]; with floor 0, the
    energy itself, whose gradient has no bound where two texts meet.
    """
    squared = 2 - 2 * texts @ texts.T
    apart = ~torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    return (1 / (floor + squared[apart])).mean()


def kept_predictions(reference: Tensor, logits: Tensor) -> Tensor:
    """mean_i KL(softmax(reference_i) || softmax(logits_i)), of logits [B, K]; the reference is a constant.

    IAKD, and the consistency of SC-MHE: the reference is v0 t0 / tau, the logits v0 t / tau, with t tuned.
    TAKD: the same reference, the logits v t0 / tau, with v tuned.
    """
    constant = reference.detach().log_softmax(-1)
    return F.kl_div(logits.log_softmax(-1), constant, reduction="batchmean", log_target=True)


def similarity_margins(texts: Tensor, size: float) -> Tensor:
    """ASAM (2026): m_yc = size (1 + cos(t_y, t_c)) / 2, m_yy = 0; unit texts [K, D] -> [K, K]. The form is ours."""
    return _off_diagonal(size * (1 + texts @ texts.T) / 2)


def distance_margins(texts: Tensor, size: float) -> Tensor:
    """TAM (2024): m_yc = size (1 - |t_y - t_c| / 2), m_yy = 0; unit texts [K, D] -> [K, K]. The form is ours."""
    distances = (2 - 2 * texts @ texts.T).clamp_min(0).sqrt()
    return _off_diagonal(size * (1 - distances / 2))


def margin_cross_entropy(cosines: Tensor, labels: Tensor, margins: Tensor, scale: Tensor | float) -> Tensor:
    """mean_i CE(scale (cos(v_i, t_c) + m_{y_i c})_c, y_i): the own class has to win by the margin of each other one.

    Args:
        cosines: [B, K], of images and texts.
        labels: [B].
        margins: [K, K], zero on the diagonal.
        scale: 1 / tau.
    """
    return F.cross_entropy(scale * (cosines + margins[labels]), labels)


def _off_diagonal(matrix: Tensor) -> Tensor:
    return matrix * (1 - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
