"""`gauntlet schema`: the published shape of an outcome."""

import json

import typer


def schema() -> None:
    """Prints the JSON Schema of an outcome file. Example: gauntlet schema > outcome.schema.json"""
    from vlm_gauntlet.fixtures.records import Outcome

    typer.echo(json.dumps(Outcome.model_json_schema(), indent=1))
