"""The page of mechanisms: what papers state of how things work, as numbers measured on the embedded backbones."""

from itertools import groupby
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.suites.findings.registry import told

from .exports import as_csv, as_json


def write_findings_page(pages: Environment, shared: dict[str, object], out: Path) -> None:
    """Writes `findings.html`, `.csv` and `.json` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        out: the site's folder.
    """
    found = list(told())
    by_finding = [(finding, list(theirs)) for finding, theirs in groupby(found, key=lambda one: one.finding)]
    text = pages.get_template("findings.html.j2").render(**shared, root="", findings=by_finding)
    lines = [one.record for one in found]
    for kind, content in {"html": text, "csv": as_csv(lines), "json": as_json(lines)}.items():
        (out / f"findings.{kind}").write_text(content, encoding="utf-8")
