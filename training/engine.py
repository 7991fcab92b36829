"""Where a training runs: one process by itself; several, or mixed precision, through Lightning Fabric."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError


class Engine:
    """One process in 32 bits: what a training asks of its machine.

    Args:
        device: where tensors go.

    Attributes:
        rank, ranks: number of this process, and how many there are.
    """

    rank = 0
    ranks = 1

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of a loss's computation."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a scalar to the leaves' `.grad`."""
        loss.backward()  # type: ignore[no-untyped-call]

    def prepared(self, optimiser: torch.optim.Optimizer) -> Any:
        """The optimiser as it is to be stepped."""
        return optimiser

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over the ranks."""

    def scale(self) -> dict[str, Any]:
        """State of mixed precision."""
        return {}

    def restore_scale(self, saved: Mapping[str, Any]) -> None:
        """Undoes `scale`."""


class FabricEngine(Engine):
    """Lightning Fabric: starts the ranks from the same command line, sums over them, scales losses."""

    def __init__(self, fabric: Any) -> None:
        super().__init__(fabric.device)
        self.fabric, self.rank, self.ranks = fabric, fabric.global_rank, fabric.world_size

    def autocast(self) -> AbstractContextManager[Any]:
        """See Engine."""
        context: AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """See Engine."""
        self.fabric.backward(loss)

    def prepared(self, optimiser: torch.optim.Optimizer) -> Any:
        """See Engine."""
        return self.fabric.setup_optimizers(optimiser)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """See Engine."""
        if self.ranks > 1:
            for tensor in tensors:
                tensor.copy_(self.fabric.all_reduce(tensor, reduce_op="sum"))

    def scale(self) -> dict[str, Any]:
        """See Engine."""
        found: dict[str, Any] = self.fabric.strategy.precision.state_dict()
        return found

    def restore_scale(self, saved: Mapping[str, Any]) -> None:
        """See Engine."""
        self.fabric.strategy.precision.load_state_dict(dict(saved))


def start_engine(device: str = "cpu", *, ranks: int = 1, precision: str = "32-true") -> Engine:
    """Starts what a training runs on; with several ranks, the command runs once more for each.

    Args:
        device: `cpu`, `cuda` or `cuda:1`; of several ranks each takes a GPU of its own, or they share the CPU.
        ranks: processes on this machine; from `torchrun` on several.
        precision: see Recipe.

    Raises:
        UnavailableError: Lightning Fabric is needed and not installed.
        GauntletError: 16-bit floats without a GPU, which Fabric would silently replace by bfloat16.
    """
    if ranks == 1 and precision == "32-true":
        return Engine(device)
    if precision == "16-mixed" and device == "cpu":
        raise GauntletError(
            "precision 16-mixed on a CPU", expected="a GPU", where="the recipe's precision", fix="32-true or bf16-mixed"
        )
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise UnavailableError(
            f"{ranks} ranks at {precision} without Lightning Fabric", expected="the package lightning-fabric",
            where="gauntlet train", fix='pip install "vlm-gauntlet[train]"',
        ) from error  # fmt: skip
    kind, _, index = device.partition(":")
    devices: int | list[int] = [int(index)] if index and ranks == 1 else ranks
    fabric = Fabric(accelerator=kind, devices=devices, strategy="ddp" if ranks > 1 else "auto", precision=precision)  # type: ignore[arg-type,unused-ignore]
    fabric.launch()
    return FabricEngine(fabric)
