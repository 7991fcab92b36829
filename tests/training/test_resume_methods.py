"""Every trained method, killed in the middle and run again: the same bytes. With its own recipe, on tiny data."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from vlm_gauntlet.cli.train_all import trainable
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.delta_clip.train import DeltaTraining
from vlm_gauntlet.methods.listed import HERE as METHODS
from vlm_gauntlet.training import job as jobs
from vlm_gauntlet.training.curve import LossCurve
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.samples import InMemory, as_bytes

from .test_resume import SHORT

SWITCHES = {"apt": {"encoder": "clip"}}  # TeCoA's tower is not there for a tiny backbone
PARTS = {"ft_standard": [{"encoders": "both"}, {"parameters": "linear-probe"}]}
CASES = [(name, also) for name in trainable() if name not in SHORT for also in PARTS.get(name, [{}])]


def tiny_clip() -> open_clip.CLIP:
    torch.manual_seed(3)
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """In place of downloaded pictures and of a second backbone."""
    pictures, numbers = as_bytes(images.repeat(4, 1, 1, 1)), torch.arange(24)
    two = {"images": pictures, "labels": numbers % 5, "target": pictures.flip(0)}
    many = torch.arange(2 * 96)  # the batches of its phases are 96
    told = {"views": pictures[many % 24], "tokens": many[:, None] % 24 + torch.arange(8), "index": 0 * many}
    patched = {
        "dart": {"domains": lambda job: (prompts, two)},
        "hpt_gpd": {"PROXIES": {"tiny": "other"}, "load_backbone": lambda *_: tiny_backbone.tuned({})},
        "delta_clip": {
            "from_scratch": lambda job: DeltaTraining(tiny_clip()), "read_corpus": lambda *_: None,
            "Views": lambda corpus, seed: InMemory(told, seed=seed, digest="told"),
        },
    }  # fmt: skip
    monkeypatch.setattr(jobs, "drawn_losses", lambda path: b"")
    for method, parts in patched.items():
        for name, value in parts.items():
            monkeypatch.setattr(import_module(f"vlm_gauntlet.methods.{method}.train"), name, value)


@pytest.mark.parametrize(("name", "also"), CASES)
@pytest.mark.usefixtures("stand_ins")
def test_killed_in_the_middle_and_resumed(
    name: str, also: dict[str, str], tmp_path: Path, job_of: Callable[..., TrainingJob]
) -> None:
    recipe = tmp_path / "short.toml"
    base = METHODS / name / "recipes/miniclip-vit"
    recipe.write_text(f'base = "{base}"\nbatch_size = 8\nsave_every = 2\nshots = 10\n')
    train = import_module(f"vlm_gauntlet.methods.{name}.train").train

    def run(folder: str) -> Path:
        chosen = SWITCHES.get(name, {}) | also
        path: Path = train(job_of(name, tmp_path / folder, wanted=str(recipe), epochs=1, deviations=chosen))
        return path

    whole = run("whole")
    lines = whole.with_name(f"{whole.stem}.loss.csv").read_text()
    add, last = LossCurve.add, len(lines.splitlines()) - 1
    assert last >= 3, "a step after the last state"

    def dying(curve: LossCurve, phase: str, step: int, *rest: object) -> None:
        nonlocal last
        last -= 1
        if last == 0:
            raise KeyboardInterrupt
        add(curve, phase, step, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LossCurve, "add", dying)
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    assert list((tmp_path / "killed").glob("*.resume.safetensors")), "some steps stand"
    again = run("killed")
    assert sha256(again.read_bytes()) == sha256(whole.read_bytes())
    assert again.with_name(f"{again.stem}.loss.csv").read_text() == lines
