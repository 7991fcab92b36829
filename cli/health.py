"""`gauntlet health`: is a published board whole and young?"""

from typing import Annotated

import typer


def health(
    board: Annotated[str, typer.Argument(help="its address, or a folder")],
    days: Annotated[int, typer.Option(min=1, help="how old the newest outcome may be")] = 8,
    most: Annotated[int, typer.Option(min=1, help="files that are looked at")] = 500,
) -> None:
    """Follows the links of a board, reads its data, and says what does not hold. Exits with 1 if something does not.

    Examples:

      gauntlet health https://example.org/board

      gauntlet health site --days 30
    """
    from vlm_gauntlet.leaderboard.health import fetching
    from vlm_gauntlet.leaderboard.health import health as look

    found = look(fetching(board), days=days, most=most)
    newest = "never" if found.newest is None else found.newest.isoformat()
    typer.echo(f"{found.pages} files answer, {found.outcomes} outcomes validate, the newest was made {newest}")
    for problem in found.problems:
        typer.echo(f"WARN  {problem}")
    if found.problems:
        raise typer.Exit(1)
