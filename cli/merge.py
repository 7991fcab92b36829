"""`gauntlet merge`: the outcomes of several shards in one folder."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    folders: Annotated[
        list[str],
        typer.Argument(help="folders of outcomes, or a URL of a place that machines shared: s3://bucket/night"),
    ],
    out: Annotated[Path, typer.Option(help="folder that takes them; it may hold some already")] = Path("outcomes"),
) -> None:
    """Brings outcomes of several folders into one, with what lies beside them: archives, verifications, checks.

    Two files of one key with different results are an error that names both; nothing is written then.

    Examples:

      gauntlet run --tier mini --shard 1/2 --outcomes one    # here
      gauntlet run --tier mini --shard 2/2 --outcomes two    # there
      gauntlet merge one two --out outcomes
      gauntlet merge s3://bucket/night --out outcomes        # what `--store s3://bucket/night` holds
    """
    from vlm_gauntlet.suites.merging import merge as merged
    from vlm_gauntlet.suites.shared_store import SharedJournal

    for url in (name for name in folders if "://" in name):
        typer.echo(f"{SharedJournal(out, url).fetch()} outcomes to {out}/ from {url}")
    if not (local := [Path(name) for name in folders if "://" not in name]):
        return
    done = merged(local, out)
    typer.echo(f"{done.copied} outcomes to {out}/; {done.same} were there more than once, with one result")
    for path in done.kept:
        typer.echo(f"not taken: {path}: {out}/ has another version")
    if done.unfinished:
        typer.echo(f"{len(done.unfinished)} cells are unfinished: run their shards again, in their own folders")
