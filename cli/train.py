"""`gauntlet train` and `gauntlet train-miniclip`: make again what the clone carries."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from .console import table
from .device import Device


def train(
    method: Annotated[
        str,
        typer.Argument(help="a trained method, with its training deviations: tecoa+learning_rate=parser-default"),
    ],
    backbone: Annotated[str, typer.Option(help="the model to start from")],
    data: Annotated[Path, typer.Option(help="webdataset folder with a `train` split", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="folder for the checkpoint")] = Path("checkpoints"),
    epochs: Annotated[int | None, typer.Option(min=1, help="default: the recipe's")] = None,
    seed: int = 0,
    device: Device = "cpu",
) -> None:
    """Trains what a defence stands on by its own recipe: an image tower, prompts, or a prior.

    A killed run resumes where a tower is fine-tuned; prompts and priors start again.
    Prints the pin of the checkpoint, for `methods/<id>/checkpoints.toml`.

    Example:

      gauntlet train tecoa --backbone miniclip-cnn --data ~/data/wds/tiny_imagenet
    """
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.methods.registry import method as method_named
    from vlm_gauntlet.methods.registry import methods
    from vlm_gauntlet.methods.training import Order

    chosen = method_named(method)
    trainable = [name for name in methods() if find_spec(f"vlm_gauntlet.methods.{name}.train")]
    if chosen.card.id not in trainable:
        raise GauntletError(
            f"{chosen.card.id} is not trained", expected=f"one of: {', '.join(trainable)}", where="METHOD",
            fix="only methods with a `train` module are trained here",
        )  # fmt: skip
    trainer = import_module(f"vlm_gauntlet.methods.{chosen.card.id}.train").train
    path = trainer(Order(chosen.card.id, backbone, data, out, epochs, seed, device, chosen.deviations))
    typer.echo(f"checkpoint: {path}")


def train_miniclip(
    sources: Annotated[Path, typer.Option(help="folder for the public packages that the pictures come from")] = Path(
        "miniclip-sources"
    ),
    out: Annotated[Path, typer.Option(help="folder for weights and evaluation sets")] = Path("miniclip-vit"),
    steps: Annotated[int, typer.Option(min=1, help="batches of 256; 2900 made the weights of the clone")] = 2900,
    seed: int = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Makes miniclip-vit again: fetches public packages, cuts the sets, trains, packs, measures (about half an hour).

    Needs `pip install "vlm-gauntlet[train]"`, npm and apt-get. A killed run resumes.

    Example:

      gauntlet train-miniclip --out miniclip-vit
    """
    from vlm_gauntlet.fixtures.miniclip_training.make import make_miniclip_vit

    measured = make_miniclip_vit(out, sources, steps=steps, seed=seed, threads=threads)
    table([list(vars(m).values()) for m in measured], list(vars(measured[0])))
