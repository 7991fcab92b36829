"""`gauntlet train` and `gauntlet train-miniclip`: make again what the clone carries."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from .console import table
from .device import Device


def train(
    backbone: Annotated[str, typer.Option(help="the model to start from")],
    data: Annotated[Path, typer.Option(help="webdataset folder with a `train` split", exists=True, file_okay=False)],
    method: Annotated[
        str | None,
        typer.Argument(help="a trained method, with its training deviations: tecoa+learning_rate=parser-default"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="every checkpoint of this clone that was made on this data, each in a folder")
    ] = False,
    out: Annotated[Path, typer.Option(help="folder for the checkpoint")] = Path("checkpoints"),
    recipe: Annotated[
        str | None,
        typer.Option(
            help="a name in methods/METHOD/recipes/, or a .toml file; default: the backbone's, or the paper's"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of each phase; default: the recipe's")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="samples of each class; default: the recipe's")] = None,
    seed: Annotated[int, typer.Option(help="of order, shots, noise and first weights")] = 0,
    device: Device = "cpu",
    ranks: Annotated[int, typer.Option(min=1, help="processes that share each batch; a GPU each with cuda")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure", help="time a few steps and print what the training costs, for measured.toml")
    ] = False,
) -> None:
    """Trains what a defence stands on by its own recipe: an image tower, prompts, or a prior.

    A recipe says all that a paper says: optimiser, rate and its schedule, batch, shots, epochs and phases, eps and
    steps of the attack inside, precision. Copy one, change it, and give the file: --recipe mine.toml.

    A killed run goes on with the same command, and ends in the same bytes. Beside the checkpoint lie
    <name>.loss.csv, a line a step, and its drawing <name>.loss.svg; until it is finished <name>.resume.safetensors.
    Prints the pin of the checkpoint, for `methods/<id>/checkpoints.toml`.

    Examples:

      gauntlet train tecoa --backbone miniclip-cnn --data ~/data/wds/tiny_imagenet

      gauntlet train tapt+variant=VLI --backbone miniclip-vit --data DIR --shots 4 --epochs 2

      gauntlet train tecoa --backbone open_clip:ViT-B-32-quickgelu/openai --data DIR --device cuda --ranks 4

      OMP_NUM_THREADS=1 gauntlet train tecoa --backbone miniclip-vit --data DIR --measure

      gauntlet train --all --backbone miniclip-vit --data miniclip-sources/miniclip_vit_train    # overnight
    """
    import inspect

    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.methods.registry import from_outside
    from vlm_gauntlet.methods.registry import method as method_named
    from vlm_gauntlet.training.job import TrainingJob

    from .train_all import train_all, trainable

    if everything != (method is None):
        raise GauntletError(
            f"{method} and --all" if everything else "no method", expected="a method, or --all", where="METHOD",
            fix=f"one of: {', '.join(trainable())}",
        )  # fmt: skip
    if method is None:
        return train_all(backbone, data, out, seed=seed, device=device, measure=measure)
    if from_outside(method) or (chosen := method_named(method)).card.id not in trainable():
        raise GauntletError(
            f"{method} is not trained", expected=f"one of: {', '.join(trainable())}", where="METHOD",
            fix="only methods with a `train` module are trained here",
        )  # fmt: skip
    if waste := sorted(set(chosen.deviations) & getattr(chosen.defence, "at_inference", frozenset())):
        raise GauntletError(
            f"{method}: {', '.join(waste)} changes no training", expected="switches of training", where="METHOD",
            fix="leave it out; the defence applies it to the checkpoint",
        )  # fmt: skip
    trainer = import_module(f"vlm_gauntlet.methods.{chosen.card.id}.train").train
    folder = Path(inspect.getfile(chosen.defence)).parent
    job = TrainingJob(
        chosen.card.id, folder, backbone, data, out, epochs=epochs, shots=shots, seed=seed, device=device,
        wanted=recipe, ranks=ranks, deviations=chosen.deviations, measure=measure,
    )  # fmt: skip
    path = trainer(job)
    if job.engine.rank == 0 and not measure:
        typer.echo(f"checkpoint: {path}")


def train_miniclip(
    sources: Annotated[Path, typer.Option(help="folder for the public packages that the pictures come from")] = Path(
        "miniclip-sources"
    ),
    out: Annotated[Path, typer.Option(help="folder for weights and evaluation sets")] = Path("miniclip-vit"),
    steps: Annotated[int | None, typer.Option(min=1, help="batches of 256; default: the recipe's 2900")] = None,
    seed: int = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads")] = None,
) -> None:
    """Makes miniclip-vit again: fetches public packages, cuts the sets, trains, packs, measures (about half an hour).

    Needs `pip install "vlm-gauntlet[train]"`, npm and apt-get. A killed run resumes.

    Example:

      gauntlet train-miniclip --out miniclip-vit
    """
    from vlm_gauntlet.training.miniclip.make import make_miniclip_vit

    measured = make_miniclip_vit(out, sources, steps=steps, seed=seed, threads=threads)
    table([list(vars(m).values()) for m in measured], list(vars(measured[0])))
