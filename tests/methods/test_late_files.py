"""Whatever a defence from outside reads is found, however late and by whatever door, and nothing else is."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.late_files import LateFiles, digest_of, joined, moved
from vlm_gauntlet.methods.registry import method

MODULE = """
import importlib, importlib.util, json, runpy, sys
from pathlib import Path
import numpy as np
import safetensors, torch
from safetensors import safe_open
from safetensors.torch import load_file
from vlm_gauntlet.methods.base import Defence

HERE = Path(__file__).parent
KEPT = {}

class Mine(Defence):
    def forward(self, images, prompts):
        LINE
        return self.backbone(images, prompts)
"""
WRITE: dict[str, Callable[[Path, float], object]] = {
    "data.json": lambda path, value: path.write_text(f"[{value}]"),
    "data.npy": lambda path, value: np.save(path, np.array([value])),
    "data.npz": lambda path, value: np.savez(path, a=np.array([value])),
    "data.pt": lambda path, value: torch.save({"a": torch.tensor([value])}, path),
    "data.safetensors": lambda path, value: save_file({"a": torch.tensor([value])}, path),
    "helper_1.py": lambda path, value: path.write_text(f"RATE = {value}\n"),
    "../elsewhere.txt": lambda path, value: path.write_text(f"{value}"),
}
READS = {
    "open": ("data.json", "open(HERE / 'data.json').read()"),
    "pathlib": ("data.json", "KEPT.setdefault(1, json.loads((HERE / 'data.json').read_text()))"),
    "numpy": ("data.npy", "np.load(HERE / 'data.npy')"),
    "numpy, mapped": ("data.npy", "np.load(HERE / 'data.npy', mmap_mode='r')"),
    "numpy, several": ("data.npz", "KEPT.update(np.load(HERE / 'data.npz'))"),
    "fromfile": ("data.npy", "np.fromfile(HERE / 'data.npy', dtype=np.uint8)"),
    "torch": ("data.pt", "torch.load(HERE / 'data.pt', weights_only=True)"),
    "torch, mapped": ("data.pt", "torch.load(HERE / 'data.pt', weights_only=True, mmap=True)"),
    "safetensors": ("data.safetensors", "KEPT.update(load_file(HERE / 'data.safetensors'))"),
    "safe_open": ("data.safetensors", "safe_open(HERE / 'data.safetensors', 'pt').keys()"),
    "its module": ("data.safetensors", "safetensors.safe_open(filename=HERE / 'data.safetensors', framework='np')"),
    "computed name": ("helper_1.py", "sys.path.insert(0, str(HERE)); importlib.import_module('helper_' + str(1))"),
    "by its path": (
        "helper_1.py", "spec = importlib.util.spec_from_file_location('other', HERE / 'helper_1.py'); "
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))",
    ),
    "runpy": ("helper_1.py", "runpy.run_path(str(HERE / ('helper_' + str(1) + '.py')))"),
    "elsewhere": ("../elsewhere.txt", "(HERE.parent / 'elsewhere.txt').read_text()"),
}  # fmt: skip


def mine(folder: Path, line: str) -> str:
    """The address of a defence that reads in `forward`."""
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE.replace("LINE", line))
    for name, write in WRITE.items():
        write(folder / name, 1.0)
    return f"{folder / 'mine.py'}:Mine"


@pytest.fixture
def run(tiny_backbone: Backbone, prompts: PromptSet, images: Tensor) -> Callable[[str], dict[str, str]]:
    """Runs a defence from outside, and tells what it read."""

    def made(address: str) -> dict[str, str]:
        chosen = method(address)
        files = LateFiles(chosen)
        with files.hearing():
            defence = chosen.build(tiny_backbone)
        assert not [name for name in files.found() if name.startswith(str(Path(address).parent))], "nothing yet"
        with files.hearing():
            defence(images, prompts)
        return files.found()

    return made


@pytest.mark.parametrize("how", READS)
def test_what_forward_reads_is_found(
    how: str, tmp_path: Path, run: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "helper_1", raising=False)
    name, line = READS[how]
    found = run(mine(tmp_path / "own", line))
    sys.modules.pop("helper_1", None)
    path = (tmp_path / "own" / name).resolve()
    assert {n: d for n, d in found.items() if n.startswith(str(tmp_path))} == {str(path): digest_of(path)}
    assert not moved(found)
    WRITE[name](path, 2.0)
    assert moved(found) == [str(path)]
    path.unlink()
    assert moved(found) == [str(path)], "gone"


@pytest.mark.parametrize(
    "line",
    [
        "open('/proc/self/status').read()",
        "Path(torch.__file__).with_name('version.py').read_text()",
        "Path(sys.modules[Defence.__module__].__file__).with_name('card.py').read_text()",
        "Path(__file__).read_text()",  # in the digest of its code
        "(HERE / 'log.txt').write_text('x'), (HERE / 'log.txt').read_text()",
        "(HERE / 'nowhere.txt').exists()",
    ],
)
def test_what_is_pythons_the_houses_its_own_or_in_a_digest_is_not(
    line: str, tmp_path: Path, run: Callable[[str], dict[str, str]]
) -> None:
    assert run(mine(tmp_path / "own", line)).keys() & {str(p) for p in tmp_path.rglob("*")} == set()


def test_a_method_of_the_house_is_not_listened_to(tiny_backbone: Backbone, tmp_path: Path) -> None:
    files = LateFiles(method("undefended"))
    (tmp_path / "a.txt").touch()
    with files.hearing():
        (tmp_path / "a.txt").read_text()
    assert not files.found()


def test_a_file_that_changes_while_it_is_read_is_one_clear_error(tmp_path: Path) -> None:
    files = LateFiles(method(mine(tmp_path / "own", "pass")))
    path = tmp_path / "own" / "data.json"
    with files.hearing():
        path.read_text()
    path.write_text("[2.00]")
    with pytest.raises(GauntletError, match=r"data\.json changed while"), files.hearing():
        pass
    with pytest.raises(GauntletError, match=r"data\.json changed while"):
        joined({str(path): "a"}, {str(path): "b"})
    assert joined({"b": "1"}, {"a": "2", "b": "1"}) == {"a": "2", "b": "1"}
