"""A folder to start from, which holds a defence that works."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.registry import method


def test_the_folder_holds_a_defence_that_attackers_can_go_through(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["new", "my_defence", "--out", str(tmp_path)])
    assert said.exit_code == 0, said.stderr
    address = f"{tmp_path}/my_defence/method.py:MyDefence"
    assert f"gauntlet check {address}" in said.stdout
    chosen = method(address)
    assert chosen.card.id == "my_defence" and chosen.card.name == "My Defence"
    defence, prompts = chosen.build(load_backbone("miniclip-vit")), PromptSet.from_templates(["a", "b", "c"], ["{c}"])
    images = torch.rand(2, 3, 32, 32).requires_grad_()
    through = defence.surrogate(images, prompts)
    torch.testing.assert_close(defence(images.detach(), prompts), through, rtol=0, atol=1e-3)
    assert through.shape == (2, 3)
    (gradient,) = torch.autograd.grad(through.sum(), images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ["taken", "../up", "With Space", "1st"])
def test_a_bad_or_taken_name_changes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    said = CliRunner().invoke(app, ["new", name, "--out", str(tmp_path)])
    assert said.exit_code == 2 and "choose another name" in said.stderr
    assert [p.name for p in tmp_path.rglob("*")] == ["taken"]
