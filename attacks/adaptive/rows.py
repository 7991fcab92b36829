"""What an attack keeps of each sample: tensors of one row a sample, cut alike when samples leave."""

from copy import copy
from typing import Self

from torch import Tensor


class Rows:
    """A dataclass whose tensors hold one row a sample; all else is shared."""

    def kept(self, index: Tensor) -> Self:
        """The same for the samples at `index`, in that order."""
        twin = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(twin, name, value[index])
        return twin
