"""How TIMA moves class texts, so that classes that it was not trained on move as well."""

import torch.nn.functional as F
from torch import Tensor, nn


class TextMap(nn.Module):
    """t = unit(t0 + S t0): a linear map that starts at the identity.

    Args:
        shift: S [D, D].
    """

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)

    def forward(self, texts: Tensor) -> Tensor:
        """Unit class texts [..., K, D] -> tuned ones."""
        return F.normalize(texts + texts @ self.shift.T, dim=-1)
