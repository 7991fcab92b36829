"""`gauntlet schema`: the published shapes of the records."""

import json
from typing import Annotated, Literal

import typer


def schema(
    record: Annotated[Literal["outcome", "retrieval", "verification"], typer.Argument(help="which record")] = "outcome",
) -> None:
    """Prints the JSON Schema of an outcome file, of a retrieval outcome, or of a record of verifications.

    Examples:

      gauntlet schema > outcome.schema.json

      gauntlet schema retrieval > retrieval.schema.json
    """
    from pydantic import BaseModel

    from vlm_gauntlet.fixtures.records import Outcome
    from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome
    from vlm_gauntlet.suites.verification_records import Verifications

    shapes: dict[str, type[BaseModel]] = {
        "outcome": Outcome,
        "retrieval": RetrievalOutcome,
        "verification": Verifications,
    }
    typer.echo(json.dumps(shapes[record].model_json_schema(), indent=1))
