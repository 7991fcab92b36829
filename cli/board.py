"""`gauntlet board`: from outcomes to pages and tables."""

import gc
from pathlib import Path
from typing import Annotated

import typer


def board(
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes")] = Path("outcomes"),
    out: Annotated[Path | None, typer.Option(help="folder for the pages; made anew as a whole")] = None,
    text: Annotated[bool, typer.Option("--text", help="print the tables here as well")] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="a method from outside that counts as known: file.py:Class; repeatable")
    ] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="a protocol file that counts as known; repeatable")] = None,
    previous: Annotated[
        list[Path] | None,
        typer.Option(
            help="outcomes of a night before; repeatable: what changed is a page, cells have a history", exists=True
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the rows as one JSON array")] = False,
) -> None:
    """Renders the leaderboard; image-text retrieval has a page of its own where there are such outcomes.

    Each outcome is compared with the data and the code that are here. A file that cannot be true is set aside; one of
    code, a method or a protocol that are not known here is shown and does not rank. The board names all of them.

    Examples:

      gauntlet board --outcomes outcomes --out site

      gauntlet board --outcomes outcomes --text

      gauntlet board --outcomes outcomes --out site --method mine.py:Mine

      gauntlet board --outcomes tonight --previous last-night --out site    # and nights.html, nights.xml, nights.md

      gauntlet board --outcomes tonight --previous monday --previous sunday --out site
    """
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.leaderboard.evidence import gather
    from vlm_gauntlet.leaderboard.exports import to_json
    from vlm_gauntlet.leaderboard.retrieval_page import retrieval_text
    from vlm_gauntlet.leaderboard.site import build_site
    from vlm_gauntlet.leaderboard.table import text_table
    from vlm_gauntlet.suites.known_here import KnownHere

    gc.disable()  # a short process over many records: collecting only walks them again and again
    here = KnownHere(method or (), protocol or ())
    found = gather(outcomes, here)
    shown = [*found.sound, *found.unranked]
    if not (shown or found.retrieval or found.aside):
        raise GauntletError(
            f"no outcomes in {outcomes}/", expected="one JSON file a finished cell", where="--outcomes",
            fix=f"gauntlet run --tier fast --outcomes {outcomes}",
        )  # fmt: skip
    if as_json:
        typer.echo(to_json(found.rows(), told=found.told), nl=False)
    elif text or out is None:
        tables = [text_table(shown, found.rows())] if shown else []
        typer.echo("\n\n".join([*tables, *filter(None, [retrieval_text(found.retrieval)])]))
    for title, groups in (("set aside", found.reasons), ("not ranked", found.unranked_reasons)):
        for reason, names in groups:
            typer.echo(f"{title}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {reason}", err=True)
    if out is not None:
        before = [gather(folder, here) for folder in previous or ()]
        site = build_site(found, out, previous=before)
        typer.echo(f"\n{len(shown) + len(found.retrieval)} outcomes -> {site}", err=as_json)
    gc.enable()
