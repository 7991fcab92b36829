"""`gauntlet findings`: what papers state of mechanisms, and what was measured of it here."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .console import table


def findings(
    names: Annotated[list[str] | None, typer.Argument(help="ids; default: all")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="compute them now; prints lines of measured.csv")] = False,
    limit: Annotated[int, typer.Option(min=2, help="samples of each place")] = 64,
    backbone: Annotated[str | None, typer.Option(help="only the place on this embedded backbone")] = None,
    out: Annotated[Path | None, typer.Option(help="with --measure: write the lines into this file as well")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON array")] = False,
) -> None:
    """Lists each mechanism that a paper states as one number, and whether it holds on the embedded backbones.

    A finding holds where the whole 95 % interval lies on the stated side of its bound.

    Examples:

      gauntlet findings

      gauntlet findings false-stability --measure --backbone miniclip-vit
    """
    from vlm_gauntlet.fixtures.errors import UnavailableError
    from vlm_gauntlet.suites.findings import registry

    chosen = [registry.finding(name) for name in names or registry.findings()]
    if measure:
        lines = [",".join(registry.COLUMNS)]
        for place in registry.PLACES:
            if backbone in (None, place.backbone):
                for one in chosen:
                    try:
                        found = registry.measure(one, place, limit)
                    except UnavailableError as missing:
                        typer.echo(f"{one.id} on {place.backbone}: not run: {missing}", err=True)
                        continue
                    if found is not None:
                        lines.append(",".join(str(getattr(found, column)) for column in registry.COLUMNS))
                        typer.echo(lines[-1])
        if out is not None:
            out.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    told = [
        one for one in registry.told() if one.finding in chosen and (not one.place or backbone in (None, one.place))
    ]
    if as_json:
        typer.echo(json.dumps([one.record for one in told], indent=1, ensure_ascii=False))
        return
    columns = ["finding", "backbone", "value", "interval", "n", "rule", "judgement"]
    table([["" if one.record[c] is None else one.record[c] for c in columns] for one in told], columns)
