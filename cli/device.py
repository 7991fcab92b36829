"""The option `--device`, checked before anything is loaded."""

from typing import Annotated

import typer

from vlm_gauntlet.fixtures.errors import GauntletError


def usable(device: str) -> str:
    """The device; raises GauntletError where torch cannot use it."""
    if device == "cpu":
        return device  # the common case costs no import
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise GauntletError(
            f"device {device!r}: {str(error).splitlines()[0]}", expected="cpu, or cuda where torch sees a GPU",
            where="--device", fix="gauntlet doctor says what torch sees",
        ) from error  # fmt: skip
    return device


Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1", callback=usable)]
