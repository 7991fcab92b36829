"""Every part of this project can be used: a broken one is skipped nowhere without failing here."""

from pathlib import Path

import pytest

from vlm_gauntlet.leaderboard.left_out import EVERYTHING, left_out
from vlm_gauntlet.methods.claims import claims, read_claims
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.suites.mini_claims import mini_claims, read_mini_claims

METHODS = Path(__file__).parents[2] / "methods"


@pytest.mark.parametrize("module", EVERYTHING)
def test_every_part_can_be_used(module: str) -> None:
    lost = left_out(module, own=True)
    assert not lost, "\n".join(f"{part.kind} {part.name!r}: {part.error}" for part in lost)


def test_every_folder_is_a_method() -> None:
    folders = {p.parent.name for name in ("card.toml", "method.py") for p in METHODS.glob(f"*/{name}")}
    assert folders <= set(methods())


def test_no_line_of_claims_is_lost() -> None:
    assert len(claims()) == sum(len(read_claims(path)) for path in METHODS.glob("*/claims.csv"))
    assert len(mini_claims()) == sum(len(read_mini_claims(path)) for path in METHODS.glob("*/mini_claims.csv"))
