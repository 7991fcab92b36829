"""One folder a method, small readable files, safe loading, a clone that travels."""

import re
import statistics
import subprocess
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.card import read_card

ROOT = Path(__file__).parents[2]
CODE = sorted(p for room in ("fixtures", "attacks", "methods", "suites", "leaderboard", "cli", "tests")
              for p in (ROOT / room).rglob("*.py"))  # fmt: skip
FOLDERS = sorted(p.parent for p in (ROOT / "methods").glob("*/method.py"))
UNSAFE = re.compile(r"pickle\.loads?\(|import pickle|torch\.load\((?!.*weights_only=True)|allow_pickle=True")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_one_folder_a_method(folder: Path) -> None:
    card = read_card(folder)
    assert card.id == folder.name
    assert len((folder / "method.py").read_text().splitlines()) <= 200
    for switch in card.deviations:
        assert switch.as_coded in switch.choices, switch.name
        assert len(set(switch.choices)) == len(switch.choices), switch.name
    assert card.code_licence and card.paper and card.threat


def test_a_folder_with_another_cards_id_is_caught(tmp_path: Path) -> None:
    folder = tmp_path / "another"
    folder.mkdir()
    (folder / "card.toml").write_text((ROOT / "methods" / "aom" / "card.toml").read_text())
    with pytest.raises(GauntletError, match="card id 'aom' in folder 'another'"):
        read_card(folder)


def test_files_are_rooms() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in CODE}
    assert max(lengths.values()) <= 400, max(lengths, key=lambda p: lengths[p])
    assert statistics.median(lengths.values()) <= 100


@pytest.mark.parametrize("path", [p for p in CODE if p != Path(__file__)], ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled(path: Path) -> None:
    assert not UNSAFE.search(path.read_text())


@pytest.mark.parametrize(
    "line", ["torch.load(path)", "pickle.load(f)", "import pickle", "np.load(f, allow_pickle=True)"]
)
def test_unsafe_loading_is_caught(line: str) -> None:
    assert UNSAFE.search(line)
    assert not UNSAFE.search("torch.load(path, weights_only=True)")


def test_the_clone_travels() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert sum(f.stat().st_size for f in files if f.is_file()) < 60e6
