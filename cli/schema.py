"""`gauntlet schema`: the published shapes of the records."""

import json
from typing import Annotated, Literal

import typer


def schema(
    record: Annotated[Literal["outcome", "retrieval"], typer.Argument(help="which record")] = "outcome",
) -> None:
    """Prints the JSON Schema of an outcome file, or of a retrieval outcome.

    Examples:

      gauntlet schema > outcome.schema.json

      gauntlet schema retrieval > retrieval.schema.json
    """
    from vlm_gauntlet.fixtures.records import Outcome
    from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome

    shape = RetrievalOutcome.model_json_schema() if record == "retrieval" else Outcome.model_json_schema()
    typer.echo(json.dumps(shape, indent=1))
