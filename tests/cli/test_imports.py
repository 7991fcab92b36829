"""Listing commands start without what only a model or a picture needs: it takes seconds and hundreds of megabytes."""

import subprocess
import sys

import pytest

HEAVY = ("open_clip", "torchvision", "timm", "torch._dynamo")


@pytest.mark.parametrize("command", ["methods", "protocols"])
def test_a_list_loads_no_model_code(command: str) -> None:
    code = (
        "import sys\n"
        "from vlm_gauntlet.cli.main import app\n"
        f"app(['{command}'], standalone_mode=False)\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert len(done.stdout.splitlines()) > 5
