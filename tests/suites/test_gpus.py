"""A worker sees one GPU before CUDA wakes up, and an outcome says what computed it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.device import device_name
from vlm_gauntlet.fixtures.exact import exact_arithmetic
from vlm_gauntlet.suites import gpus as here
from vlm_gauntlet.suites.device_record import driver_version, system_of
from vlm_gauntlet.suites.gpus import gpus, pin


def worker(number: int, **more: str) -> dict[str, str]:
    return {"PYTEST_XDIST_WORKER": f"gw{number}", **more}


@pytest.mark.parametrize(
    ("number", "visible", "seen"),
    [(0, "0,1,2", "0"), (1, "0,1,2", "1"), (4, "0,1,2", "1"), (1, "5, 7", "7"), (0, "GPU-8f2e", "GPU-8f2e"),
     (2, "3,-1,4", "3")],
)  # fmt: skip
def test_workers_take_the_visible_gpus_in_turn(number: int, visible: str, seen: str) -> None:
    environment = worker(number, CUDA_VISIBLE_DEVICES=visible)
    assert pin("cuda", environment) == seen == environment["CUDA_VISIBLE_DEVICES"]


def test_nothing_is_pinned_that_was_named_or_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for device, environment in (
        ("cpu", worker(0, CUDA_VISIBLE_DEVICES="0,1")), ("cuda:1", worker(0, CUDA_VISIBLE_DEVICES="0,1")),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "0,1"}), ("cuda", worker(0, CUDA_VISIBLE_DEVICES="")),
    ):  # fmt: skip
        before = dict(environment)
        assert pin(device, environment) == "" and environment == before
    monkeypatch.setattr(here, "DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus({}) == []


def test_the_driver_counts_gpus_where_nobody_hides_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("0000:3b:00.0", "0000:af:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(here, "DRIVER", tmp_path)
    assert gpus({}) == ["0", "1"] and pin("cuda", environment := worker(3)) == "1"
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_worker_is_pinned_before_torch_is_imported(tmp_path: Path) -> None:
    """The plug-in settles it when pytest starts; torch, which reads it once, is not there yet."""
    (tmp_path / "test_it.py").write_text(
        "import os\ndef test_it():\n    print('seen', os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    (tmp_path / "early.py").write_text(
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        "            print('torch sees', os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    code = (
        "import os, sys; sys.path.insert(0, '.'); import early, pytest; "
        "raise SystemExit(pytest.main(['-q', '-s', '-p', 'vlm_gauntlet.suites.plugin', '-p', 'no:cacheprovider', "
        "'-p', 'no:xdist', '--device', 'cuda', '-c', '/dev/null', '--rootdir', '.', 'test_it.py']))"
    )
    environment = {**here.os.environ, "PYTEST_XDIST_WORKER": "gw1", "CUDA_VISIBLE_DEVICES": "4,6"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "torch sees 6" in done.stdout and "torch sees 4" not in done.stdout and "seen 6" in done.stdout, (
        done.stdout + done.stderr
    )


def test_products_and_convolutions_are_exact() -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    exact_arithmetic()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark


def test_an_outcome_says_what_computed_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(system_of("cpu")) == {"os", "dtype"} and "CPU" in device_name("cpu")
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC version: 12.3.0\n")
    opened = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
    assert driver_version(version) == "550.54.15" and driver_version(tmp_path / "none") == "unknown"
    (tmp_path / "open").write_text(opened)
    assert driver_version(tmp_path / "open") == "580.95.05"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    properties = type("P", (), {"total_memory": 40 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert device_name("cuda") == "A100, 40 GiB" and {"cuda", "cudnn", "nvidia-driver"} <= system_of("cuda").keys()
