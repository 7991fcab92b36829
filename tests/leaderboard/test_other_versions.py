"""The board says it at the cell where an outcome was made with other packages than it is shown beside."""

from pathlib import Path

import pytest

from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.suites import versions
from vlm_gauntlet.suites.versions import versions_here

from .factory import outcome, retrieved


def board(folder: Path, torch: str) -> tuple[str, str]:
    """The pages of a cell and of retrieval, of outcomes that were made with this torch."""
    made, found = outcome("1100"), retrieved()
    made_with = {**versions_here(), "torch": torch}
    made = made.model_copy(update={"provenance": made.provenance.model_copy(update={"versions": made_with})})
    found = found.model_copy(update={"provenance": found.provenance.model_copy(update={"versions": made_with})})
    site = build_site([made], folder / torch, retrieval=[found]).parent
    return (site / "cells" / "tecoa" / "tiny" / "shapes.html").read_text(), (site / "retrieval.html").read_text()


def test_other_versions_are_said_at_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "versions_here", lambda here=dict(versions_here()): {**here, "torch": "2.11.0"})
    for page in board(tmp_path, "2.9.0"):
        assert page.count("Made with torch 2.9.0; here 2.11.0.") == 1
    for page in board(tmp_path, "2.11.0"):
        assert "Made with" not in page
