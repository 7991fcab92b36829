"""`gauntlet check`: conformance of one defence, as a report to paste; or its costs, as lines for its card."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .console import quiet
from .device import Device


def check(
    method: Annotated[str, typer.Argument(help="id, module:Class or file.py:Class")],
    backbone: Annotated[str, typer.Option(help="what it defends during the check")] = "miniclip-vit",
    device: Device = "cpu",
    outcomes: Annotated[
        Path | None,
        typer.Option(help="folder of outcomes that keeps the report; the board tells what failed"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="check nothing; count and time, and print the lines for the card")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as one JSON object")] = False,
) -> None:
    """Checks that a defence keeps the contract: shapes, state, randomness, gradients, budget.

    Prints Markdown; exits with 1 if a check failed. A defence from outside is checked in a process of its own, within
    half an hour and 16 GiB. Passes must equal the card's; times are only told.

    With --measure: passes for one image of a prediction and of an adaptive attacker's gradient (one draw), and
    milliseconds an image in a batch of 16, the median of 3 calls, on as many threads as OMP_NUM_THREADS says; with
    one, processor time, without what other programs take.

    Examples:

      gauntlet check ttc

      gauntlet check mine.py:MyDefence > report.md

      OMP_NUM_THREADS=1 gauntlet check ttc --backbone miniclip-cnn --measure
    """
    from rich.console import Console
    from rich.progress import Progress

    from vlm_gauntlet.fixtures.backbones import load_backbone
    from vlm_gauntlet.suites.check_records import keep
    from vlm_gauntlet.suites.conformance import check_defence
    from vlm_gauntlet.suites.conformance.apart import check_apart, measure_apart
    from vlm_gauntlet.suites.conformance.costs import measure as measured
    from vlm_gauntlet.suites.described import Described, described

    chosen = described(method)
    if measure:
        if isinstance(chosen, Described):
            typer.echo(measure_apart(method, backbone, device))
        else:
            typer.echo(measured(chosen, load_backbone(backbone, device)).toml())
        return
    with Progress(console=Console(stderr=True), transient=True, disable=quiet()) as bar:
        task = bar.add_task("checks", total=None)

        def progress(name: str, number: int, total: int) -> None:
            bar.update(task, description=name, completed=number - 1, total=total)

        if isinstance(chosen, Described):
            report = check_apart(method, backbone, device)
        else:
            report = check_defence(chosen, load_backbone(backbone, device), progress=progress)
    if outcomes is not None:
        keep(outcomes, chosen, report)
    typer.echo(json.dumps({**asdict(report), "passed": report.passed}, indent=1) if as_json else report.markdown())
    if not report.passed:
        raise typer.Exit(1)
