"""`gauntlet check`: conformance of one defence, as a report to paste."""

from typing import Annotated

import typer

from .console import quiet
from .device import Device


def check(
    method: Annotated[str, typer.Argument(help="id, module:Class or file.py:Class")],
    backbone: Annotated[str, typer.Option(help="what it defends during the check")] = "miniclip-vit",
    device: Device = "cpu",
) -> None:
    """Checks that a defence keeps the contract: shapes, state, randomness, gradients, budget.

    Prints Markdown; exits with 1 if a check failed.

    Examples:

      gauntlet check ttc

      gauntlet check mine.py:MyDefence > report.md
    """
    from rich.console import Console
    from rich.progress import Progress

    from vlm_gauntlet.fixtures.backbones import load_backbone
    from vlm_gauntlet.methods.registry import method as method_named
    from vlm_gauntlet.suites.conformance import check_defence

    chosen = method_named(method)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet()) as bar:
        task = bar.add_task("checks", total=None)
        report = check_defence(
            chosen,
            load_backbone(backbone, device),
            progress=lambda name, number, total: bar.update(task, description=name, completed=number - 1, total=total),
        )
    typer.echo(report.markdown())
    if not report.passed:
        raise typer.Exit(1)
