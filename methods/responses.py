"""Responses: what authors say to a verdict, word for word, one file each in `fixtures/data/responses/`.

A response stands beside the verdict and never changes it.
"""

import tomllib
from collections import defaultdict
from datetime import date
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

import vlm_gauntlet.fixtures as fixtures
from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.parts import Parts, read_all

from .claims import claims

FOLDER = Path(fixtures.__file__).parent / "data" / "responses"


class Response(BaseModel):
    """One answer to the verdicts of some claims.

    Args:
        claims: ids as `gauntlet claims --json` prints them.
        author: who answers, as he or she wants to be named.
        role: what the author has to do with the source.
        date: when it was written.
        text: plain text; shown as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    claims: tuple[str, ...] = Field(min_length=1, max_length=1000, strict=False)
    author: str = Field(min_length=1, max_length=300)
    role: str = Field(min_length=1, max_length=300)
    date: date
    text: str = Field(min_length=1, max_length=4000)

    @field_validator("claims")
    @classmethod
    def _known_claims(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = {claim.id for claim in claims()}
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"no claim has the id {unknown[0]!r}; gauntlet claims --json lists them")
        return value


def read_response(path: Path) -> Response:
    """Reads one file.

    Raises:
        GauntletError: it does not validate, or speaks of a claim that nobody knows.
    """
    with reading("response", path, expected="claims, author, role, date and text", fix="see submit.html of any board"):
        return Response.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


@cache
def parts() -> Parts[Response]:
    """Every file of a response, the broken ones with what is wrong."""
    return read_all("response", sorted(FOLDER.glob("*.toml")), read_response, lambda path: path.stem)


@cache
def _by_claim() -> dict[str, list[Response]]:
    found: dict[str, list[Response]] = defaultdict(list)
    for response in sorted(parts().usable.values(), key=lambda one: (one.date, one.author, one.text)):
        for name in response.claims:
            found[name].append(response)
    return dict(found)


def responses_to(claim: str) -> list[Response]:
    """What was said to the verdict of a claim, the oldest first."""
    return _by_claim().get(claim, [])
