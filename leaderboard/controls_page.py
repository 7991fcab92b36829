"""The page of control numbers: whether what a public source measured comes out here."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from .control_numbers import TOLERANCE, Held, Z, control_numbers, standing
from .exports import as_json


def write_controls_page(pages: Environment, shared: dict[str, object], found: Sequence[Held], out: Path) -> None:
    """Writes `controls.html` and `controls.json` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        found: the numbers against what counts.
        out: the site's folder.
    """
    text = pages.get_template("controls.html.j2").render(
        **shared, root="", held=found, standing=standing(found), sources=control_numbers()[0],
        tolerance=100 * TOLERANCE, z=Z,
    )  # fmt: skip
    (out / "controls.html").write_text(text, encoding="utf-8")
    (out / "controls.json").write_text(as_json([record(one) for one in found]), encoding="utf-8")


def record(one: Held) -> dict[str, object]:
    """A control number as a flat record."""
    return {
        "method": one.control.method, "measure": one.control.measure, "dataset": one.dataset,
        "protocol": one.control.protocol, "source": one.control.source, "expected": one.expected,
        "observed": one.observed, "n": one.n, "low": one.low, "high": one.high, "verdict": one.word,
        "reason": one.reason, "command": one.command,
    }  # fmt: skip
