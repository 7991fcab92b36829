"""`gauntlet diff|history|compare`: one folder of outcomes against another, one cell over nights, two methods."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlm_gauntlet.fixtures.records import Outcome

Json = Annotated[bool, typer.Option("--json", help="one JSON object or array")]
Folder = Annotated[Path, typer.Argument(help="folder of outcomes", exists=True, file_okay=False)]


def diff(
    before: Folder,
    after: Folder,
    markdown: Annotated[bool, typer.Option("--markdown", help="a summary for a pull request")] = False,
    as_json: Json = False,
) -> None:
    """What is new, gone, or another beyond its interval between two folders of outcomes, and which verdicts turned.

    Every file that can be read counts; `gauntlet board --previous` first judges them.

    Examples:

      gauntlet diff yesterday/ today/

      gauntlet diff main-outcomes outcomes --markdown >> $GITHUB_STEP_SUMMARY
    """
    from vlm_gauntlet.leaderboard.nights import night
    from vlm_gauntlet.leaderboard.nights_page import to_markdown
    from vlm_gauntlet.methods.claims import claims

    found = night(_read(before), _read(after), claims())
    if as_json:
        typer.echo(json.dumps({**asdict(found), "made": found.made.isoformat()}, indent=1, ensure_ascii=False))
    elif markdown:
        typer.echo(to_markdown(found))
    else:
        kinds = (("changed", found.changed), ("new", found.new), ("vanished", found.vanished), ("moved", found.moved))
        if lines := [[kind, c.cell, c.seed, *c.words.split(" → ")] for kind, changes in kinds for c in changes]:
            table(lines, ["", "cell", "seed", "before", "after"])
        if found.flips:
            table([[f.claim, f.before, f.after, f.reason] for f in found.flips], ["claim", "before", "after", "why"])
        typer.echo(found.sentence)


def history(
    name: Annotated[str, typer.Argument(help="a method, or a part of a cell's id")],
    folders: Annotated[list[Path], typer.Argument(help="folders of outcomes", exists=True, file_okay=False)],
    as_json: Json = False,
) -> None:
    """All outcomes of a method or a cell in the order in which they were made, versions of code and data among them.

    Examples:

      gauntlet history ttc nights/*/outcomes

      gauntlet history ttc-miniclip-vit-digits-clean outcomes --json
    """
    from vlm_gauntlet.fixtures.errors import unknown_name
    from vlm_gauntlet.leaderboard.formatting import interval
    from vlm_gauntlet.leaderboard.nights import made_at, robust

    read = [(folder, outcome) for folder in folders for outcome in _read(folder)]
    asked = [pair for pair in read if pair[1].cell.method == name] or [p for p in read if name in p[1].cell.id]
    if not asked:
        raise unknown_name("method or cell", name, {o.cell.method for _, o in read}, "NAME")
    lines = [
        {"made": made_at(o).isoformat(), "folder": str(folder), "cell": o.cell.id, "seed": o.cell.seed, "n": o.n,
         "robust": robust(o), "code": o.cell.code_digest[:8], "key": o.key}
        for folder, o in sorted(asked, key=lambda pair: (pair[1].cell.id, pair[1].cell.seed, made_at(pair[1])))
    ]  # fmt: skip
    if as_json:
        typer.echo(json.dumps([{**line, "robust": asdict(line["robust"])} for line in lines], indent=1))  # type: ignore[call-overload]
        return
    table([[interval(v) if k == "robust" else v for k, v in line.items()] for line in lines], list(lines[0]))  # type: ignore[arg-type]


def compare(
    first: Annotated[str, typer.Argument(metavar="METHOD", help="a method")],
    second: Annotated[str, typer.Argument(metavar="METHOD", help="another")],
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes", exists=True, file_okay=False)] = Path("outcomes"),
    as_json: Json = False,
) -> None:
    """Two methods under every protocol that both ran: robust accuracy, and the paired difference on the same samples.

    Example: gauntlet compare ttc tecoa --outcomes outcomes
    """
    from vlm_gauntlet.fixtures.errors import unknown_name
    from vlm_gauntlet.leaderboard.formatting import interval
    from vlm_gauntlet.leaderboard.nights import pairs

    read = _read(outcomes)
    known = {o.cell.method for o in read}
    for name in (first, second):
        if name not in known:
            raise unknown_name("method with outcomes", name, known, "METHOD")
    found = pairs(first, second, read)
    if as_json:
        typer.echo(json.dumps([asdict(pair) for pair in found], indent=1))
        return
    lines = [
        [p.where, interval(p.first), interval(p.second), f"{100 * p.paired.difference:+.1f} "
         f"[{100 * p.paired.low:+.1f}, {100 * p.paired.high:+.1f}]" if p.paired else "other samples",
         f"{p.paired.p:.2g}" if p.paired else "–"]
        for p in found
    ]  # fmt: skip
    table(lines, ["where", first, second, f"{first} - {second}", "p"])


def _read(folder: Path) -> "Sequence[Outcome]":
    """What can be read; the rest is named."""
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.suites.journal import Journal

    found, aside = Journal(folder).read_all()
    for lost in aside:
        typer.echo(f"not read: {lost.path.name}: {lost.reason}", err=True)
    if not found:
        raise GauntletError(
            f"no outcomes in {folder}/", expected="one JSON file a finished cell", where=str(folder),
            fix="name the folder that `gauntlet run --outcomes` wrote",
        )  # fmt: skip
    return found
