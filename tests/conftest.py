"""Fixtures shared by the tests of our own code."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import open_clip
import pytest
import torch
import webdataset
from hypothesis import settings
from torchvision.transforms.functional import to_pil_image

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training import job as jobs
from vlm_gauntlet.training.job import TrainingJob

from .rounding import OtherRounding

METHODS = Path(__file__).parents[1] / "methods"

if not settings().print_blob:  # failures print a command that repeats them (suites/falsified.py)
    settings.register_profile("tests", print_blob=True)
    settings.load_profile("tests")


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is kept between runs lies in a folder of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder := tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def other_rounding() -> Iterator[None]:
    """`GAUNTLET_ROUNDING=seed`: everything is computed as another processor might (`rounding.py`)."""
    seed = os.environ.get("GAUNTLET_ROUNDING")
    with OtherRounding(int(seed)) if seed else nullcontext():
        yield


@pytest.fixture(scope="session")
def tiny_backbone() -> Backbone:
    """A random open_clip ViT at 16 px: the real code path at no cost."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        text_cfg={"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    )
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=16)
    half = (0.5, 0.5, 0.5)
    return Backbone(clip, tokenizer, name="tiny", image_size=16, mean=half, std=half, digest="tiny")


@pytest.fixture(scope="session")
def prompts() -> PromptSet:
    """Five classes, one template."""
    return PromptSet.from_templates(["cat", "dog", "ship", "tree", "cup"], ["a photo of a {c}."])


@pytest.fixture
def images() -> torch.Tensor:
    """Six pictures at 16 px."""
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def write_training_set(folder: Path, shards: tuple[int, ...], size: int = 16) -> Path:
    """A webdataset with a `train` split: noise of five classes, so many pictures in each shard."""
    (folder / "train").mkdir(parents=True)
    (folder / "classnames.txt").write_text("cat\ndog\nship\ntree\ncup\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    generator, number = torch.Generator().manual_seed(5), 0
    for shard, length in enumerate(shards):
        with webdataset.TarWriter(str(folder / "train" / f"{shard}.tar")) as tar:
            for _ in range(length):
                picture = io.BytesIO()
                to_pil_image(torch.rand(3, size, size, generator=generator)).save(picture, "PNG")
                tar.write({"__key__": f"{number:06d}", "png": picture.getvalue(), "cls": number % 5})
                number += 1
    return folder


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, 24 pictures at 16 px."""
    return write_training_set(tmp_path_factory.mktemp("data") / "noise", (14, 10))


@pytest.fixture
def job_of(tiny_backbone: Backbone, training_set: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainingJob]:
    """A job of a method on the tiny backbone and the small training set."""
    monkeypatch.setattr(jobs, "load_backbone", lambda name, device: tiny_backbone)

    def made(method: str, out: Path, **asked: object) -> TrainingJob:
        quiet = {"progress": False, "report": lambda text: None, **asked}
        return TrainingJob(method, METHODS / method, "tiny", training_set, out, **quiet)

    return made
