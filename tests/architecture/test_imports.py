"""Imports run downwards only: fixtures <- attacks <- training <- methods <- suites <- leaderboard <- cli.

The suites' own tests (`suites/test_*.py`) are doors, not rooms: nothing imports them, and they may use the verdicts.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("fixtures", "attacks", "training", "methods", "suites", "leaderboard", "cli")


def imported_rooms(source: str, path: Path) -> Iterator[str]:
    """Rooms that a module of the house imports from, relative imports resolved."""
    package = ("vlm_gauntlet", *path.parent.parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "vlm_gauntlet" and len(parts) > 1 and parts[1] in ROOMS:
                yield parts[1]


def upward(source: str, path: Path) -> list[str]:
    """Imports of a module (path relative to the root) that run upwards."""
    own = ROOMS.index(path.parts[0])
    return sorted({room for room in imported_rooms(source, path) if ROOMS.index(room) > own})


MODULES = sorted(
    p.relative_to(ROOT) for room in ROOMS for p in (ROOT / room).rglob("*.py") if not p.name.startswith("test_")
)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_downwards(path: Path) -> None:
    assert upward((ROOT / path).read_text(), path) == []


@pytest.mark.parametrize(
    "line",
    [
        "from vlm_gauntlet.methods.base import Defence",
        "import vlm_gauntlet.suites.running",
        "from vlm_gauntlet import leaderboard",
        "from ..methods import base",
    ],
)
def test_an_upward_import_is_caught(line: str) -> None:
    assert upward(line, Path("attacks/pgd.py"))
    assert not upward("from ..fixtures import draws\nfrom .balls import project", Path("attacks/pgd.py"))
