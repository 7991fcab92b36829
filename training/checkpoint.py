"""What trainings leave: int8 differences of image towers, prompts, priors; read by their pins."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, reading
from vlm_gauntlet.fixtures.files import read_weights
from vlm_gauntlet.fixtures.packing import ALL_LEVELS, pack, unpack

from .pins import Pin, read_pins

BESIDE = "beside:"  # starts the names of what is no part of the image tower


def packed_difference(
    start: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    beside: Mapping[str, Tensor] | None = None,
    *,
    levels: int = ALL_LEVELS,
) -> bytes:
    """Trained parameters by name as their difference to those they started from; matrices as int8 rows of `levels`.

    What did not move is left out: a table of words is larger than both towers of a small model. What a method keeps
    `beside` them is written as it is, in half precision.
    """
    moved = {name: tensor for name, tensor in trained.items() if not torch.equal(tensor, start[name])}
    difference = {name: (tensor.detach() - start[name].detach()).cpu() for name, tensor in moved.items()}
    matrices = {name for name, tensor in difference.items() if tensor.dim() >= 2 and tensor.numel() > 1024}
    kept = {BESIDE + name: tensor.detach().cpu() for name, tensor in (beside or {}).items()}
    return save(pack(difference | kept, int8=matrices, levels=levels))


def set_apart(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The difference of a checkpoint, and what was kept beside it."""
    difference = {name: tensor for name, tensor in state.items() if not name.startswith(BESIDE)}
    beside = {name.removeprefix(BESIDE): t for name, t in state.items() if name.startswith(BESIDE)}
    return difference, beside


def packed_tensors(tensors: Mapping[str, Tensor], *, int8: bool) -> bytes:
    """Prompts or a prior as they are, in half precision; with `int8`, matrices as int8 rows."""
    state = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    return save(pack(state, int8={name for name, tensor in state.items() if int8 and tensor.dim() == 2}))


def load_checkpoint(folder: Path, name: str, base: Backbone, *, train_with: str) -> dict[str, Tensor]:
    """Reads the difference `folder/<name>.safetensors` after checking its pin and its backbone.

    Raises:
        UnavailableError: no such checkpoint here; the error gives the command that trains it.
        GauntletError: the pins do not validate, digest or size differ, or it belongs to another backbone.
    """
    pins = read_pins(folder)
    if name not in pins:
        raise UnavailableError(
            f"no checkpoint {name!r}", expected=f"one of: {', '.join(sorted(pins)) or '(none)'}", where=str(folder),
            fix=f"train it: {train_with}",
        )  # fmt: skip
    if pins[name].base != base.digest:
        raise GauntletError(
            f"backbone {base.name} with digest {base.digest[:12]}",
            expected=f"the backbone it was trained from, {pins[name].base[:12]}",
            where=f"{folder / name}.safetensors", fix=f"train it again: {train_with}",
        )  # fmt: skip
    path = folder / f"{name}.safetensors"
    state = read_weights(path, digest=pins[name].sha256, size=pins[name].size)
    with reading(
        "a checkpoint", path, expected="int8 matrices with a scale a row", fix=f"train it again: {train_with}"
    ):
        return unpack(state)


def pin_text(name: str, pin: Pin) -> str:
    """The table of one pin, for `checkpoints.toml`."""
    fields = "\n".join(f"{key} = {value!r}".replace("'", '"') for key, value in pin.model_dump().items())
    return f'["{name}"]\n{fields}\n'
