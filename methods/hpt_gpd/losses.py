"""The losses of HPT-GPD (Fu et al. 2026, abstract; HPT-GPD.py:922-933 at 9fb0669)."""

import torch.nn.functional as F
from torch import Tensor


def taught(student: Tensor, teacher: Tensor) -> Tensor:
    """mean_i KL(softmax(teacher_i) || softmax(student_i)), over all classes. (The code takes the sum over the batch.)

    The teacher is the proxy on the same adversarial images, or the untouched target on the clean ones.

    Args:
        student: logits [B, K] on adversarial images.
        teacher: logits [B, K], a constant.
    """
    return F.kl_div(student.log_softmax(-1), teacher.detach().log_softmax(-1), reduction="batchmean", log_target=True)
