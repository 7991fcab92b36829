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
    """Renders the leaderboard; image-text retrieval has a page of its own where there are such outcomes.

    Examples:

      gauntlet board --outcomes outcomes --out site

      gauntlet board --outcomes outcomes --text
    """
    gc.disable()  # a short process over a million records: collecting only walks them again and again
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.leaderboard.retrieval_page import retrieval_text
    from vlm_gauntlet.leaderboard.site import build_site
    from vlm_gauntlet.leaderboard.table import text_table
    from vlm_gauntlet.suites.journal import Journal
    from vlm_gauntlet.suites.retrieval_records import RetrievalJournal

    found, retrieval = Journal(outcomes).outcomes(), RetrievalJournal(outcomes).outcomes()
    if not found and not retrieval:
        raise GauntletError(
            f"no outcomes in {outcomes}/", expected="one JSON file a finished cell", where="--outcomes",
            fix=f"gauntlet run --tier fast --outcomes {outcomes}",
        )  # fmt: skip
    if text or out is None:
        tables = [text_table(found)] if found else []
        typer.echo("\n\n".join([*tables, *filter(None, [retrieval_text(retrieval)])]))
    if out is not None:
        typer.echo(f"\n{len(found) + len(retrieval)} outcomes -> {build_site(found, out, retrieval=retrieval)}")
    gc.enable()
