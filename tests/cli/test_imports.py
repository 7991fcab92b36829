"""Listing commands start without what only a model or a picture needs: it takes seconds and hundreds of megabytes."""

import subprocess
import sys

import pytest

MODELS = ("open_clip", "torchvision", "timm", "torch._dynamo")
EVERYTHING = ("torch", "scipy", "matplotlib", *MODELS)


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["methods"], EVERYTHING), (["datasets"], EVERYTHING), (["backbones"], EVERYTHING), (["claims"], EVERYTHING),
        (["claims", "audit"], EVERYTHING), (["protocols"], MODELS),  # whose attacks check their parameters
    ],
    ids=lambda value: "-".join(value[:2]),
)  # fmt: skip
def test_a_list_loads_no_model_code(command: list[str], heavy: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from vlm_gauntlet.cli.main import app\n"
        f"app({command!r}, standalone_mode=False)\n"
        f"print('loaded:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"
    assert len(done.stdout.splitlines()) >= 5
