"""The tensors that a method itself trained for a backbone, found by the switches that are not at their defaults."""

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.training.checkpoint import load_checkpoint

from .base import Defence
from .card import Deviation


def not_default(
    chosen: Mapping[str, str], switches: tuple[Deviation, ...], *, but: Collection[str] = ()
) -> dict[str, str]:
    """The choices that make a checkpoint another one.

    Args:
        chosen: by name.
        switches: all that the method has.
        but: those that change nothing in training.
    """
    default = {d.name: d.choices[0] for d in switches}
    return {name: choice for name, choice in chosen.items() if choice != default[name] and name not in but}


def own_checkpoint(
    defence: Defence, backbone: Backbone, *, but: Collection[str] = (), data: str = "DIR"
) -> dict[str, Tensor]:
    """Reads `<backbone>+<switch>=<choice>.safetensors` beside the defence's own file, on the backbone's device.

    Args:
        defence: whose.
        backbone: that it was trained for.
        but: switches that change nothing in training.
        data: what it is trained on, for the command that an error gives.

    Raises:
        UnavailableError: nobody trained it for this backbone; says how to.
    """
    named = not_default(defence.deviations, defence.card.deviations, but=but)
    switches = "".join(sorted(f"+{name}={choice}" for name, choice in named.items()))
    train_with = f"gauntlet train {defence.card.id}{switches} --backbone {backbone.name} --data {data}"
    folder = Path(inspect.getfile(type(defence))).parent
    tensors = load_checkpoint(folder, backbone.name + switches, backbone, train_with=train_with)
    return {name: tensor.to(backbone.device) for name, tensor in tensors.items()}
