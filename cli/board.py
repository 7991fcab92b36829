"""`gauntlet board`: from outcomes to pages and tables."""

import gc
from pathlib import Path
from typing import Annotated

import typer


def board(
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes")] = Path("outcomes"),
    out: Annotated[Path | None, typer.Option(help="folder for the pages; made anew as a whole")] = None,
    text: Annotated[bool, typer.Option("--text", help="print the tables here as well")] = False,
) -> None:
    """Renders the leaderboard.

    Examples:

      gauntlet board --outcomes outcomes --out site

      gauntlet board --outcomes outcomes --text
    """
    gc.disable()  # a short process over a million records: collecting only walks them again and again
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.leaderboard.site import build_site
    from vlm_gauntlet.leaderboard.table import text_table
    from vlm_gauntlet.suites.journal import Journal

    found = Journal(outcomes).outcomes()
    if not found:
        raise GauntletError(
            f"no outcomes in {outcomes}/", expected="one JSON file a finished cell", where="--outcomes",
            fix=f"gauntlet run --tier fast --outcomes {outcomes}",
        )  # fmt: skip
    if text or out is None:
        typer.echo(text_table(found))
    if out is not None:
        typer.echo(f"\n{len(found)} outcomes -> {build_site(found, out)}")
    gc.enable()
