"""A linear probe: rows of its own in place of class texts, one for each class that it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from vlm_gauntlet.fixtures.errors import UnavailableError


class LinearProbe(nn.Module):
    """Logits W phi(x) of features that are not of unit length, for classes by their names.

    Args:
        rows: W [K, D].
        names: of the K classes.
    """

    rows: Tensor

    def __init__(self, rows: Tensor, names: Sequence[str]) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.names = tuple(names)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them: the names as the bytes of their lines."""
        written = "\n".join(self.names).encode()
        return {"rows": self.rows, "names": torch.tensor(list(written), dtype=torch.uint8)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """From a checkpoint."""
        return cls(tensors["rows"], bytes(tensors["names"].tolist()).decode().split("\n"))

    def forward(self, features: Tensor, names: Sequence[str]) -> Tensor:
        """Features [B, D] -> logits [B, K'] of the classes that are asked for.

        Raises:
            UnavailableError: one of them was not in the training.
        """
        if unknown := [name for name in names if name not in self.names]:
            raise UnavailableError(
                f"a linear probe asked for {unknown[0]!r} and {len(unknown) - 1} others that it has no row for",
                expected=f"classes among the {len(self.names)} that it was trained on", where="ft_standard",
                fix="train it on these classes: gauntlet train ft_standard+parameters=linear-probe --data DIR",
            )  # fmt: skip
        return features @ self.rows[[self.names.index(name) for name in names]].T
