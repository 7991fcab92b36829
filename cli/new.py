"""`gauntlet new`: a folder with a defence of one's own, to start from."""

import re
from pathlib import Path
from typing import Annotated

import typer

METHOD = '''"""{title}: what it does, in a sentence. Read like the paper: the equations' numbers in comments."""

from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import identity_backward
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence


class {name}(Defence):
    """Rounds each pixel to 32 levels and classifies what is left. Put yours here.

    At hand: `self.backbone(images, prompts)` -> logits; `self.backbone.encode_image(images)` -> features [B, D];
    `self.backbone.classify(features, prompts)` -> logits; `self.draws` for random numbers, a stream for each sample
    (then set `randomised = true` in card.toml).
    """

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """images [B, 3, H, W] in [0,1] -> logits [B, K], each sample for itself."""
        return self.backbone(_rounded(images), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """What the strongest attacker differentiates instead: here rounding is taken for the identity (BPDA)."""
        return self.backbone(identity_backward(_rounded, images), prompts)


def _rounded(images: Tensor) -> Tensor:
    return (images * 31).round() / 31
'''
CARD = """id = "{folder}"
name = "{title}"
paper = "unknown"
authors = "unknown"
year = 2026
venue = "unpublished"
code = "none"
code_licence = "none"
paradigm = "external"
optimises = "nothing"
threat = "L-inf"
cost = {{ forward = 1, backward = 0 }}      # `gauntlet check --measure` counts
attack_cost = {{ forward = 1, backward = 1 }}
"""


def new(
    name: Annotated[str, typer.Argument(help="of the folder: letters, digits and underscores")] = "mine",
    out: Annotated[Path, typer.Option(help="where the folder is made", exists=True, file_okay=False)] = Path("."),
) -> None:
    """Makes a folder with a defence that passes `gauntlet check`, to put your own in.

    Example: gauntlet new mine && gauntlet check mine/method.py:Mine
    """
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.fixtures.files import write_atomically, writing

    folder = out / name
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or folder.exists():
        came = f"{folder} is there already" if folder.exists() else f"{name!r} is no name of a folder of code"
        raise GauntletError(
            came, expected="a new name of small letters, digits and underscores", where="NAME",
            fix="choose another name: gauntlet new my_defence",
        )  # fmt: skip
    title = name.replace("_", " ").title()
    told = {"name": title.replace(" ", ""), "title": title, "folder": name}
    with writing(folder, fix="choose another --out"):
        write_atomically(folder / "method.py", METHOD.format(**told).encode())
        write_atomically(folder / "card.toml", CARD.format(**told).encode())
    address = f"{folder}/method.py:{told['name']}"
    typer.echo(f"{folder}/method.py and card.toml. Next:\n  gauntlet check {address}")
    typer.echo(f"  gauntlet run --tier fast --method {address} --method undefended")
