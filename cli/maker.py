"""The option `--maker` of the commands that run cells."""

from typing import Annotated

import typer

MakerOption = Annotated[
    str | None,
    typer.Option(
        "--maker",
        help="who runs the cells: first party (this project), third party, authors (of the method), unknown; "
        "default: $GAUNTLET_MAKER. A statement on the board, not a proof",
    ),
]
