"""`gauntlet data`: natural images come from their own sources into the data root."""

from pathlib import Path
from typing import Annotated

import typer

from .console import quiet

app = typer.Typer(
    help="Natural images: fetched from their own sources, never shipped.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """Keeps `get` a sub-command."""


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="`gauntlet datasets` lists the names")],
    root: Annotated[Path | None, typer.Option(help="data root; default: $GAUNTLET_DATA, or the user's cache")] = None,
    split: Annotated[str, typer.Option(help="test or train")] = "test",
) -> None:
    """Downloads a data set through torchvision and writes it in the layout that the suites read.

    Example:

      gauntlet data get cifar10
    """
    from rich.progress import Progress

    from vlm_gauntlet.fixtures.download import download

    with Progress(transient=True, disable=quiet()) as bar:
        task = bar.add_task(name, total=None)
        folder = download(
            name, split=split, root=root, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    typer.echo(f"{name} -> {folder}")
