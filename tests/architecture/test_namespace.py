"""Everything is imported by one name, which interpreter, editors, checkers and wheels find in the same place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("fixtures", "attacks", "training", "methods", "suites", "leaderboard", "cli")


def bare(source: str) -> list[str]:
    """Absolute imports of a room without its namespace: an editable install would find it, and load it twice."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        found += [name for name in names if name.split(".")[0] in ROOMS]
    return found


def test_each_room_is_one_relative_link() -> None:
    links = {p.name: p for p in (ROOT / "vlm_gauntlet").iterdir()}
    assert sorted(links) == sorted(ROOMS)
    for name, link in links.items():
        assert link.readlink() == Path("..") / name
        assert link.resolve() == ROOT / name


@pytest.mark.parametrize(
    "path",
    sorted(p for room in (*ROOMS, "tests") for p in (ROOT / room).rglob("*.py")),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_no_room_is_imported_without_its_namespace(path: Path) -> None:
    assert bare(path.read_text()) == []


def test_a_bare_import_is_caught() -> None:
    assert bare("from attacks.pgd import PGD\nimport methods.base") == ["attacks.pgd", "methods.base"]
    assert bare("from . import attacks\nimport vlm_gauntlet.attacks") == []
