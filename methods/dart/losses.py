"""The losses of DART (Huang et al. 2026): the abstract names distillation; their form here is ours."""

import torch.nn.functional as F
from torch import Tensor


def shift(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance between the mean unit features [B, D] of two domains: the maximum mean discrepancy, linear."""
    return (F.normalize(source, dim=-1).mean(0) - F.normalize(target, dim=-1).mean(0)).square().sum()


def distilled(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_i KL(softmax(teacher_i) || softmax(student_i)); logits [B, K], the teacher's a constant."""
    return F.kl_div(student.log_softmax(-1), teacher.detach().log_softmax(-1), reduction="batchmean", log_target=True)
