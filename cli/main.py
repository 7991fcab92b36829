"""The `gauntlet` command. Each command lives in its own module and imports what is heavy only when it runs."""

import errno
from collections.abc import Callable
from typing import Annotated

import typer
from typer.core import TyperGroup

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.left_out import left_out_so_far

from . import (
    board,
    check,
    claims,
    controls,
    data,
    doctor,
    export,
    findings,
    health,
    lists,
    merge,
    new,
    night,
    nights,
    plan,
    retrieval,
    run,
    schema,
    train,
    verify,
)
from .console import errors

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


class Friendly(TyperGroup):
    """Prints a GauntletError as the message that it is; a traceback only where somebody asks for it."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """See click.Group. A full disk and a locked folder are errors of this kind, too."""
        try:
            return _then_say_what_is_left_out(super().invoke, ctx)
        except (GauntletError, OSError) as error:
            if ctx.params.get("debug") or (isinstance(error, OSError) and error.errno not in UNWRITABLE):
                raise
            errors.print(f"error: {error if isinstance(error, GauntletError) else _disk(error)}")
            raise typer.Exit(2) from None


def _disk(error: OSError) -> GauntletError:
    """What a disk or a folder that takes nothing raised, wherever it was noticed."""
    return GauntletError(
        f"{error.strerror}", expected="a folder to write in, and room", where=str(error.filename or "the disk"),
        fix="make room, or choose another folder; the same command goes on from what is whole",
    )  # fmt: skip


def _then_say_what_is_left_out(invoke: Callable[[typer.Context], object], ctx: typer.Context) -> object:
    """Also of a command that exits by itself; one that ends with an error says that and no more."""
    try:
        result = invoke(ctx)
    except typer.Exit:
        _say_what_is_left_out(ctx)
        raise
    _say_what_is_left_out(ctx)
    return result


def _say_what_is_left_out(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand in ("doctor", "methods"):  # they say it themselves
        return
    for lost in left_out_so_far():
        errors.print(f"left out: {lost} (`gauntlet doctor` says where, and what to do)")


app = typer.Typer(
    cls=Friendly,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"vlm-gauntlet {version('vlm-gauntlet')}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="GAUNTLET_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Reproducibility suite and leaderboard for adversarial defences of vision-language models.

    \b
    A first look, offline, on a CPU:
      gauntlet doctor
      gauntlet run --tier fast --method undefended --method tecoa
      gauntlet board --outcomes outcomes --out site --text
      gauntlet retrieval --attack sga

    \b
    Your own defence, without touching this repository:
      gauntlet new mine
      gauntlet check mine.py:Grey
      gauntlet run --tier fast --method mine.py:Grey

    \b
    What a run costs before it runs, and a whole night:
      gauntlet plan --tier nightly --passes 4000 --budget 8h
      gauntlet night --budget 8h --device cuda
      gauntlet merge one two --out outcomes

    \b
    What there is to choose from:
      gauntlet methods
      gauntlet protocols --json
      gauntlet data get cifar10

    \b
    What papers report, and what holds of it:
      gauntlet claims
      gauntlet claims audit
      gauntlet claims verdicts --outcomes outcomes
      gauntlet findings

    \b
    Is an outcome that somebody handed in what comes out?
      gauntlet verify outcomes/KEY.json --samples 16

    \b
    What changed since last night, and how two methods differ:
      gauntlet diff last-night outcomes
      gauntlet history ttc outcomes
      gauntlet compare ttc tecoa
      gauntlet export --to latex
      gauntlet results test outcomes
    """


app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("night")(night.night)
app.command("merge")(merge.merge)
app.command("retrieval")(retrieval.retrieval)
app.command("board")(board.board)
app.command("health")(health.health)
app.command("new")(new.new)
app.command("check")(check.check)
app.command("verify")(verify.verify)
for listing in (lists.methods, lists.attacks, lists.datasets, lists.protocols, lists.backbones):
    app.command(listing.__name__)(listing)
for told in (nights.diff, nights.history, nights.compare):
    app.command(told.__name__)(told)
app.command("train")(train.train)
app.command("train-miniclip")(train.train_miniclip)
app.add_typer(claims.app, name="claims")
app.add_typer(data.app, name="data")
app.command("export")(export.export)
app.add_typer(export.results, name="results")
app.command("findings")(findings.findings)
app.command("controls")(controls.controls)
app.command("doctor")(doctor.doctor)
app.command("schema")(schema.schema)
