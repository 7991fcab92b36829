"""Another processor's rounding, on this one: finds tests that stand on the last bits of a sum.

Processors differ in the order in which they sum, and so does one processor between two batch sizes. `OtherRounding`
moves each product, norm and softmax by at most one unit in the last place, by a pattern fixed by seed, shape and place:
the same computation still repeats to the bit, another batch size does not. A test that fails under some seed asks two
computations for the same float; give it a margin. `GAUNTLET_ROUNDING=3 pytest tests/` runs everything under seed 3.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ROUNDED = {
    "mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "native_layer_norm", "_softmax",
    "native_layer_norm_backward", "_scaled_dot_product_flash_attention_for_cpu", "linalg_vector_norm",
    "_scaled_dot_product_flash_attention_for_cpu_backward", "_log_softmax",
}  # fmt: skip
MIX = 2654435761  # Knuth's multiplicative hash


class OtherRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Moves the results of products, attention and norms inside the block by an ulp, or not at all.

    Args:
        seed: which of many processors.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seed = seed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See TorchDispatchMode."""
        if func._schema.name == "aten::_efficientzerotensor":  # torch 2.11 crashes on the next product of one in a mode
            return torch.zeros(*args, **(kwargs or {}))
        found = func(*args, **(kwargs or {}))
        if func._schema.name.partition("::")[2] not in ROUNDED or not func._schema.name.startswith("aten::"):
            return found
        if isinstance(found, (tuple, list)):
            return type(found)(self._moved(part) if isinstance(part, Tensor) else part for part in found)
        return self._moved(found)

    def _moved(self, values: Tensor) -> Tensor:
        # Half precision is rounded from float32 sums: there an ulp is much more than another order moves.
        if values.dtype not in (torch.float32, torch.float64) or values.numel() == 0 or values.is_meta:
            return values
        place = torch.arange(values.numel(), device=values.device) + self.seed + 31 * sum(values.shape)
        steps = (place * MIX % 2**32 % 3 - 1).view(values.shape)
        # A zero stays: it is what a mask or a pad left, whatever the order of the sum.
        return (values * (1 + steps * torch.finfo(values.dtype).eps)).to(values.dtype)


def between(values: Tensor, *, rounding: float = 1e-5) -> float:
    """A threshold that tells values [n] apart on every processor: the middle of the widest gap between two of them.

    Args:
        values: what is computed twice, once by the test and once by what it tests.
        rounding: how far, relative to the largest value, the two may lie apart.
    """
    ordered = values.detach().double().sort().values
    gaps = ordered.diff()
    widest = int(gaps.argmax())
    assert gaps[widest] > 2 * rounding * ordered.abs().max(), "the values are too close to be told apart"
    return float(ordered[widest] + gaps[widest] / 2)
