"""A board that lost a page, a link or its nights is not well."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.health import Health, fetching, health
from vlm_gauntlet.leaderboard.site import build_site

from .factory import MADE, outcome


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board") / "site"
    build_site(Evidence(sound=[outcome("1100", method="ttc"), outcome("1111", "clean", method="ttc")]), folder)
    return folder


def looked(folder: Path, *, days: int = 8, after: int = 1, most: int = 400) -> Health:
    return health(fetching(str(folder)), days=days, most=most, now=MADE + timedelta(days=after))


def test_a_board_as_it_is_made_is_well(board: Path) -> None:
    found = looked(board)
    assert not found.problems and found.pages > 5 and found.outcomes == 2 and found.newest == MADE


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("methods/ttc.html", None, "methods/ttc.html does not answer"), ("results.json", b"[]", "holds no rows"),
        ("results.json", b"{", "results.json cannot be read"), ("index.html", None, "no outcome was found"),
    ],
)  # fmt: skip
def test_what_is_lost_is_named(board: Path, name: str, data: bytes | None, said: str) -> None:
    kept = (board / name).read_bytes()
    try:
        (board / name).unlink() if data is None else (board / name).write_bytes(data)
        assert any(said in problem for problem in looked(board).problems)
    finally:
        (board / name).write_bytes(kept)


def test_an_outcome_that_is_not_its_key_is_named(board: Path) -> None:
    path = next((board / "outcomes").glob("*.json"))
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'"seed": 0', b'"seed": 1').replace(b'"seed":0', b'"seed":1'))
    try:
        assert any("is not the digest of the cell" in problem for problem in looked(board).problems)
    finally:
        path.write_bytes(kept)


def test_old_nights_are_named_and_few_files_are_enough(board: Path) -> None:
    assert looked(board, after=9).problems == ["the newest outcome is 9 days old, 8 are allowed"]
    assert looked(board, most=3).pages == 3
    assert datetime.now(UTC) > MADE
