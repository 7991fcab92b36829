"""`--method checkpoint:FILE`: a row of its own, with the file's digest in its key, on which others may stand."""

from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.registry import from_outside, method
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.described import described
from vlm_gauntlet.suites.known_here import KnownHere

VIT = "miniclip-vit"


def saved(path: Path, shift: float) -> str:
    """The image tower of miniclip-vit, a little off, as a fine-tuning would leave it."""
    state = load_backbone(VIT).clip.visual.state_dict()
    torch.save({"vision_encoder_state_dict": {f"module.{n}": t + shift for n, t in state.items()}}, path)
    return f"checkpoint:{path}"


def test_a_file_is_a_method_with_its_digest_in_name_and_key(tmp_path: Path, prompts: PromptSet) -> None:
    (tmp_path / "a@b+c").mkdir()
    name, backbone = saved(tmp_path / "a@b+c" / "my best.pth.tar", 0.001), load_backbone(VIT)
    made = method(name)
    assert made.label.startswith("checkpoint:my_best.pth.tar:") and not made.outside and not from_outside(name)
    assert described(name).label == made.label
    defence = made.build(backbone)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(defence(images, prompts), backbone(images, prompts))
    key, label = made.built_digest(defence, backbone), made.label
    saved(tmp_path / "a@b+c" / "my best.pth.tar", 0.002)
    again = method(name)
    assert again.label != label and again.built_digest(again.build(backbone), backbone) != key


def test_a_test_time_defence_stands_on_it(tmp_path: Path, prompts: PromptSet) -> None:
    name = saved(tmp_path / "w.pt", 0.001)
    composed = method(f"rn@{name}")
    assert composed.label == f"rn@{method(name).label}" and composed.tuned is not None
    defence = composed.build(load_backbone(VIT))
    assert torch.equal(
        defence.backbone.clip.visual.proj, method(name).build(load_backbone(VIT)).tuned_backbone.clip.visual.proj
    )


def test_its_outcomes_are_known_only_where_the_file_is_named(tmp_path: Path) -> None:
    name = saved(tmp_path / "w.pt", 0.001)
    label = method(name).label
    assert KnownHere()._method(label) is None
    known = KnownHere([name])._method(label)
    assert known is not None and known.label == label


def test_an_absent_file_is_not_run_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no checkpoint gone\.pt"):
        method(f"checkpoint:{tmp_path / 'gone.pt'}")


def test_a_cell_of_it_is_no_undefended_one(tmp_path: Path) -> None:
    from vlm_gauntlet.attacks.protocols import protocol

    chosen = method(saved(tmp_path / "w.pt", 0.001))
    plans = [CellPlan(m, VIT, "digits", protocol("clean"), 8, 0, "cpu", 8) for m in (chosen, method("undefended"))]
    mine, undefended = (plan.load().cell for plan in plans)
    assert mine.method.startswith("checkpoint:w.pt:") and mine.key != undefended.key
    assert mine.backbone_digest == undefended.backbone_digest
