"""`gauntlet data`: natural images come from their own sources into the data root; whether a set can be used."""

from pathlib import Path
from typing import Annotated

import typer

from .console import errors, quiet, table

app = typer.Typer(
    help="Data sets: natural images from their own sources, never shipped; what is wrong or unusual about a set.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="`gauntlet datasets` lists the names")],
    root: Annotated[Path | None, typer.Option(help="data root; default: $GAUNTLET_DATA, or the user's cache")] = None,
    split: Annotated[str, typer.Option(help="test or train")] = "test",
    source: Annotated[
        str | None, typer.Option(help="hub (at a pinned commit) or torchvision; default: the hub where it has the set")
    ] = None,
) -> None:
    """Downloads a data set and writes it in the layout that the suites read; an interrupted download goes on.

    Examples:

      gauntlet data get cifar10

      gauntlet data get cifar10 --split train --source torchvision
    """
    from rich.progress import Progress

    from vlm_gauntlet.fixtures.download import download

    with Progress(transient=True, disable=quiet()) as bar:
        task = bar.add_task(name, total=None)
        folder = download(
            name, split=split, source=source, root=root,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    typer.echo(f"{name} -> {folder}")


@app.command()
def images(
    delete: Annotated[bool, typer.Option("--delete", help="delete all of them")] = False,
) -> None:
    """Images attacked on the undefended model that runs keep for all defences: how many, how large, where.

    They are made again where they are wanted and not here.

    Example: gauntlet data images --delete
    """
    from vlm_gauntlet.suites.kept_images import KeptImages

    kept = KeptImages()
    size = kept.size / 2**20
    if delete:
        typer.echo(f"deleted {kept.clear()} batches, {size:,.1f} MiB, of {kept.folder}")
    else:
        typer.echo(f"{len(kept.entries())} batches, {size:,.1f} MiB in {kept.folder}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="`gauntlet datasets` lists the names")],
    split: Annotated[str, typer.Option(help="of the set")] = "test",
    limit: Annotated[int, typer.Option(min=1, help="also show what a run of N samples takes")] = 24,
    again: Annotated[
        bool, typer.Option("--again", help="look at every sample, whatever is known of these files")
    ] = False,
) -> None:
    """Looks at every sample of a set: shards whole, pictures readable, labels within the class names, ids unique.

    A run does the same before it computes anything; the result is kept, so that it costs once. Exits with 1 if the set
    would give a wrong number, and says which sample of which shard.

    Examples:

      gauntlet data check fashion_mnist

      GAUNTLET_DATA=~/data gauntlet data check imagenet1k --limit 1000
    """
    from rich.progress import Progress

    from vlm_gauntlet.fixtures.datasets import Dataset, dataset
    from vlm_gauntlet.fixtures.errors import GauntletError

    found = dataset(name)
    data = Dataset(found.name, found.folder, split)
    try:
        with Progress(transient=True, disable=quiet()) as bar:
            task = bar.add_task(name, total=None)
            seen = data.checked(again=again, progress=lambda done, total: bar.update(task, completed=done, total=total))
    except GauntletError as error:
        errors.print(f"error: {error}")
        raise typer.Exit(1) from None
    counted = zip(seen.class_names, seen.counts(), seen.counts(limit), strict=True)
    if seen.class_names:
        table([[i, *row] for i, row in enumerate(counted)], ["class", "name", "samples", f"of the first {limit}"])
    shards, (short, long) = len(seen.shards), seen.sides
    typer.echo(
        f"{name}: {seen.n} samples in {shards} shard{'' if shards == 1 else 's'}, sides {short} to {long} px, "
        f"digest {data.digest[:12]}"
    )
    for note in seen.notes_for(limit):
        typer.echo(f"note: {note}")
