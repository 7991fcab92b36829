"""`gauntlet export` and `gauntlet results test`: outcomes for other programs, and whether a folder of them is sound."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from .console import table

Kind = Literal[
    "csv",
    "json",
    "latex",
    "parquet",
    "mlflow",
    "wandb",
    "badges",
    "eval-results",
    "every-eval-ever",
    "codecheck",
    "system",
    "deposit",
]
Outcomes = Annotated[Path, typer.Option(help="folder of outcomes", exists=True, file_okay=False)]
results = typer.Typer(add_completion=False, rich_markup_mode=None, help="Outcomes as data: is a folder of them sound?")


def export(
    to: Annotated[Kind, typer.Option(help="format")],
    outcomes: Outcomes = Path("outcomes"),
    out: Annotated[Path, typer.Option(help="folder for the files")] = Path("export"),
    method: Annotated[list[str] | None, typer.Option(help="a method from outside that counts as known")] = None,
) -> None:
    """Writes outcomes that rank in a format of the field.

    csv, json, latex, parquet (pyarrow), mlflow (a store of files), wandb (offline): the rows of the board. Without its
    package, or where a library fails, such an export says so in one line, and its exit is 0.
    badges: shields.io endpoints ("reproduced 12/14", "adaptive 2.4 %").
    every-eval-ever, eval-results (the hub's), codecheck (the claims of each method): see leaderboard/exchange.py.
    deposit: a folder for an archive with DOI, with .zenodo.json and SHA256SUMS.

    Examples:

      gauntlet export --to latex --outcomes outcomes --out tables

      gauntlet export --to parquet --outcomes outcomes --out tables

      gauntlet export --to deposit --outcomes outcomes --out archive && (cd archive && sha256sum -c SHA256SUMS)
    """
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.leaderboard import exchange
    from vlm_gauntlet.leaderboard.deposit import write_deposit, write_files
    from vlm_gauntlet.leaderboard.evidence import gather
    from vlm_gauntlet.leaderboard.exports import records, to_csv, to_json, to_latex
    from vlm_gauntlet.leaderboard.rows import card_of
    from vlm_gauntlet.leaderboard.trackers import PACKAGES, send
    from vlm_gauntlet.leaderboard.verdicts import verdicts
    from vlm_gauntlet.methods.claims import claims
    from vlm_gauntlet.suites.known_here import KnownHere

    found = gather(outcomes, KnownHere(method or ()))
    if not found.sound:
        raise GauntletError(
            f"no outcomes in {outcomes}/ that can be taken", expected="one JSON file a finished cell",
            where="--outcomes", fix=f"gauntlet results test {outcomes} says why",
        )  # fmt: skip
    rows, files = found.rows(), {}
    if to in PACKAGES:
        problem = send(to, records(rows, told=found.told), out)
        typer.echo(problem or f"{len(rows)} rows -> {out}", err=bool(problem))
        return
    if to == "csv":
        files = {"results.csv": to_csv(rows, told=found.told)}
    elif to == "json":
        files = {"results.json": to_json(rows, told=found.told)}
    elif to == "latex":
        files = {"table.tex": to_latex(rows)}
    elif to == "every-eval-ever":
        files = exchange.every_eval_ever(found.sound)
    elif to == "eval-results":
        files = exchange.eval_results(found.sound)
    elif to == "system":
        files = {"system.json": exchange.system_json(found.sound)}
    elif to == "deposit":
        tables = {"results.csv": to_csv(rows, told=found.told), "system.json": exchange.system_json(found.sound)}
        write_deposit(out, found.sound, tables)
        typer.echo(f"{len(found.sound)} outcomes -> {out}")
        return
    else:
        judged = verdicts(claims(), found.sound)
        if to == "badges":
            files = exchange.badges(rows, judged, claims())
        else:
            cards = filter(None, (card_of(name) for name in sorted({o.cell.method for o in found.sound})))
            files = {f"{card.id}/codecheck.yml": exchange.codecheck(card, claims(), judged) for card in cards}
    write_files(out, files)
    typer.echo(f"{len(files)} file{'' if len(files) == 1 else 's'} -> {out}")


@results.callback()
def _results() -> None:
    """One command now; a group, so that others can join it."""


@results.command("test")
def test(
    folder: Annotated[Path, typer.Argument(help="folder of outcomes", exists=True, file_okay=False)],
    method: Annotated[list[str] | None, typer.Option(help="a method from outside that counts as known")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Tests a folder of outcomes as data: schema, keys, duplicates, digests against this code and data, own numbers.

    Exit status 1 where a file would be set aside or could not rank, with the reason of each.

    Example: gauntlet results test outcomes
    """
    from vlm_gauntlet.leaderboard.evidence import gather
    from vlm_gauntlet.suites.known_here import KnownHere

    found = gather(folder, KnownHere(method or ()))
    wrong = [(name, reason, "set aside") for reason, names in found.reasons for name in names]
    wrong += [(name, reason, "not ranked") for reason, names in found.unranked_reasons for name in names]
    sound = len(found.sound) + len(found.retrieval)
    if as_json:
        lines = [{"file": name, "fate": fate, "reason": reason} for name, reason, fate in wrong]
        typer.echo(json.dumps({"sound": sound, "wrong": lines}, indent=1, ensure_ascii=False))
    else:
        if wrong:
            table([[name, fate, reason] for name, reason, fate in wrong], ["file or cell", "fate", "reason"])
        typer.echo(f"{sound} sound, {len(wrong)} not")
    if wrong or not sound:
        raise typer.Exit(1)
