"""A second tree of this project in which a test may break what it likes: of links, or with code of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("fixtures", "attacks", "training", "methods", "suites", "leaderboard", "cli")
HEAVY = {".safetensors", ".tar"}


def plant(root: Path) -> Path:
    """Makes a tree of links."""
    (root / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    (root / "vlm_gauntlet").symlink_to(ROOT / "vlm_gauntlet")
    return root


def copy_code(package: Path) -> None:
    """Makes the package with code of its own, in which a test may change what it likes; weights and data are links."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, package / room, copy_function=_link_or_copy,
                        ignore=shutil.ignore_patterns("__pycache__", "mini_claims.csv"))  # fmt: skip


def _link_or_copy(source: str, target: str) -> str:
    heavy = Path(source).suffix in HEAVY
    return str(os.symlink(source, target) or target) if heavy else str(shutil.copy2(source, target))


def write(root: Path, name: str, text: str) -> Path:
    """Writes a file of the tree. Links on the way to it become folders of links: the project itself is not touched."""
    path = root / name
    for folder in reversed([p for p in path.parents if p != root and root in p.parents]):
        if folder.is_symlink():
            real = folder.resolve()
            folder.unlink()
            folder.mkdir()
            for entry in real.iterdir():
                if entry.name != "__pycache__":
                    (folder / entry.name).symlink_to(entry)
        folder.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    assert path.resolve() == path.absolute(), "it would have been written into the project"
    return path


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python in the tree."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=300)
