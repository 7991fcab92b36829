"""An external defence's data count as its code does: another weights file is another defence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.methods.data_files import CARDED, KINDS, _owned, files_digest
from vlm_gauntlet.methods.registry import method

HEAD = """
import functools, json
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import load_file
from vlm_gauntlet.methods.base import Defence

HERE = Path(__file__).parent
"""
READS = {
    "at import": "RATES = json.loads((HERE / 'data.json').read_text())\nclass Mine(Defence):\n    pass\n",
    "when built": "class Mine(Defence):\n    def __init__(self, backbone):\n        super().__init__(backbone)\n"
    "        global RATES\n        RATES = json.loads((HERE / 'data.json').read_text())\n",
    "once": "@functools.cache\ndef rates():\n    return json.loads((HERE / 'data.json').read_text())\n"
    "class Mine(Defence):\n    def __init__(self, backbone):\n        super().__init__(backbone)\n        rates()\n",
    "numpy": "class Mine(Defence):\n    def __init__(self, backbone):\n        super().__init__(backbone)\n"
    "        self.hidden = [np.load(HERE / 'data.npy').sum() > 99]\n",
    "torch": "class Mine(Defence):\n    def __init__(self, backbone):\n        super().__init__(backbone)\n"
    "        torch.load(HERE / 'data.pt', weights_only=True)\n",
    "safetensors": "class Mine(Defence):\n    def __init__(self, backbone):\n        super().__init__(backbone)\n"
    "        self.own = load_file(HERE / 'data.safetensors')\n",
}


def mine(folder: Path, reads: str, value: float) -> str:
    """The address of a defence beside its data."""
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(HEAD + READS[reads])
    (folder / "data.json").write_text(f"[{value}]")
    np.save(folder / "data.npy", np.array([value]))
    torch.save({"a": torch.tensor([value])}, folder / "data.pt")
    save_file({"a": torch.tensor([value])}, folder / "data.safetensors")
    return f"{folder / 'mine.py'}:Mine"


def built(address: str, backbone: Backbone) -> str:
    found = method(address)
    return found.built_digest(found.build(backbone), backbone)


@pytest.mark.parametrize("reads", READS)
def test_a_file_that_is_read_counts(reads: str, tmp_path: Path, tiny_backbone: Backbone) -> None:
    addresses = [mine(tmp_path / name, reads, value) for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0))]
    first, again, other = (built(address, tiny_backbone) for address in addresses)
    assert first == again != other, "the folder does not count, the content does"
    assert built(addresses[0], tiny_backbone) == first, "also where only the first build opens the file"


def test_a_file_that_is_not_read_does_not_count(tmp_path: Path, tiny_backbone: Backbone) -> None:
    address = mine(tmp_path / "a", "at import", 1.0)
    before = built(address, tiny_backbone)
    (tmp_path / "a" / "data.pt").unlink()
    (tmp_path / "a" / "outcome.json").write_text("{}")
    (tmp_path / "a" / "data.json").write_text("[3.0]")
    assert built(address, tiny_backbone) == before, "and one that was read counts as it was then"


def test_what_is_written_or_lies_elsewhere_does_not_count(tmp_path: Path, tiny_backbone: Backbone) -> None:
    digests = []
    for place, said in (("a", "one"), ("b", "two")):
        folder = tmp_path / place / "own"
        folder.mkdir(parents=True)
        (folder.parent / "elsewhere.txt").write_text(said)
        (folder / "mine.py").write_text(
            HEAD + "class Mine(Defence):\n    def __init__(self, backbone):\n        super().__init__(backbone)\n"
            f"        (HERE / 'log.txt').write_text('{place}')\n        (HERE.parent / 'elsewhere.txt').read_text()\n"
        )
        address = f"{folder / 'mine.py'}:Mine"
        digests.append(built(address, tiny_backbone))
    assert len(set(digests)) == 1


def test_a_file_that_cannot_be_opened_is_the_defences_own_error(tmp_path: Path, tiny_backbone: Backbone) -> None:
    address = mine(tmp_path / "a", "when built", 1.0)
    (tmp_path / "a" / "data.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.json"):
        built(address, tiny_backbone)


def test_a_folder_here_counts_by_what_changes_results(tmp_path: Path) -> None:
    data, told = (
        "card.toml a.safetensors b.json c.csv d/e.txt",
        "measured.toml claims.csv mini_claims.csv trainings.csv",
    )
    for name in f"{data} {told} method.py notes.md".split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [path.name for path, _ in _owned(tmp_path, KINDS)] == [
        "a.safetensors",
        "b.json",
        "c.csv",
        "card.toml",
        "e.txt",
    ]
    assert [path.name for path, _ in _owned(tmp_path, CARDED)] == ["a.safetensors", "card.toml"]


def test_methods_here_have_their_files() -> None:
    assert len({files_digest(method(name).defence) for name in ("tecoa", "ttc", "cola", "undefended")}) == 4
