"""One folder a method, small readable files, a clone that travels."""

import statistics
import subprocess
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.backbones import embedded
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.card import read_card

ROOT = Path(__file__).parents[2]
CODE = sorted(p for room in ("fixtures", "attacks", "training", "methods", "suites", "leaderboard", "cli", "tests")
              for p in (ROOT / room).rglob("*.py"))  # fmt: skip
FOLDERS = sorted(p.parent for p in (ROOT / "methods").glob("*/method.py"))
KINDS = {".py", ".toml", ".csv", ".safetensors", ".md"}


def strangers(folder: Path) -> list[str]:
    """Files that do not belong into a method's folder."""
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(p.name for p in files if p.suffix not in KINDS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_one_folder_a_method(folder: Path) -> None:
    card = read_card(folder)
    assert card.id == folder.name
    assert len((folder / "method.py").read_text().splitlines()) <= 200
    for switch in card.deviations:
        assert switch.as_coded in switch.choices, switch.name
        assert len(set(switch.choices)) == len(switch.choices), switch.name
    assert card.code_licence and card.paper and card.threat
    assert {t.backbone for t in card.timings} == (set(card.weights) or set(embedded())), "gauntlet check --measure"
    assert strangers(folder) == []


def test_a_folder_with_another_cards_id_is_caught(tmp_path: Path) -> None:
    folder = tmp_path / "another"
    folder.mkdir()
    (folder / "card.toml").write_text((ROOT / "methods" / "aom" / "card.toml").read_text())
    with pytest.raises(GauntletError, match="card id 'aom' in folder 'another'"):
        read_card(folder)


def test_a_stranger_in_a_folder_is_caught(tmp_path: Path) -> None:
    for name in ("method.py", "card.toml", "weights.pt", "run.log"):
        (tmp_path / name).touch()
    assert strangers(tmp_path) == ["run.log", "weights.pt"]


def test_files_are_rooms() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in CODE}
    assert max(lengths.values()) <= 400, max(lengths, key=lambda p: lengths[p])
    assert statistics.median(lengths.values()) <= 100


def test_the_clone_travels() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    sizes = {f: f.stat().st_size for f in files if f.is_file()}
    assert sum(sizes.values()) < 110e6
    assert sum(size for f, size in sizes.items() if f.suffix == ".safetensors" and "methods" in f.parts) < 40e6
