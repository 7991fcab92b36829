"""How to hand in a method, outcomes, or an answer to a verdict."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.responses import parts


def write_submit_page(pages: Environment, shared: Mapping[str, object], out: Path) -> None:
    """Writes `submit.html` into a site."""
    example = next((claim.id for claim in claims()), "source/table/row/column")
    text = pages.get_template("submit.html.j2").render(
        **shared, root="", example=example, example_date="2026-01-31", responses=len(parts().usable)
    )
    (out / "submit.html").write_text(text, encoding="utf-8")
