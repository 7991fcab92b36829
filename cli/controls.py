"""`gauntlet controls`: whether numbers of public sources come out here, before outcomes on real CLIP count."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import table

if TYPE_CHECKING:
    from vlm_gauntlet.leaderboard.control_numbers import Control


def controls(
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes")] = Path("outcomes"),
    as_json: Annotated[bool, typer.Option("--json", help="one JSON array")] = False,
) -> None:
    """Compares control numbers with the outcomes in a folder: clean CLIP on 16 sets and in
    retrieval on two, TeCoA and FARE from their weights.

    Exits with 1 if one does not hold. What was not run is told with the command that runs it.

    Example: gauntlet controls --outcomes outcomes
    """
    from vlm_gauntlet.leaderboard.control_numbers import standing
    from vlm_gauntlet.leaderboard.controls_page import record
    from vlm_gauntlet.leaderboard.evidence import Evidence, gather
    from vlm_gauntlet.leaderboard.exports import as_json as to_json
    from vlm_gauntlet.suites.known_here import KnownHere

    found = (gather(outcomes, KnownHere()) if outcomes.is_dir() else Evidence()).controls
    if as_json:
        typer.echo(to_json([record(one) for one in found]))
    else:
        lines = ((one.control.method, one.dataset, _asked(one.control), 100 * one.expected, one) for one in found)
        rows = [[*place, f"{there:.2f}", one.word, one.reason] for *place, there, one in lines]
        table(rows, ["method", "data set", "protocol", "there %", "verdict", "reason"])
        for command in dict.fromkeys(one.command for one in found if one.word == "not run"):
            typer.echo(f"run: {command}")
        typer.echo(f"together: {standing(found)}")
    if standing(found) == "does not hold":
        raise typer.Exit(1)


def _asked(control: "Control") -> str:
    return f"{control.protocol}, {control.measure}" if control.recall else control.protocol
