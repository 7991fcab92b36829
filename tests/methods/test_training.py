"""A training as asked for: what its result is called, what makes it again, and the pin that a defence then checks."""

from pathlib import Path

import torch

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.methods.checkpoints import load_checkpoint, read_pins, save_checkpoint
from vlm_gauntlet.methods.training import Order


def test_deviations_are_part_of_the_name_in_one_order(tmp_path: Path) -> None:
    chosen = {"training_budget": "parser-default", "learning_rate": "parser-default"}
    order = Order("tecoa", "tiny", tmp_path / "pictures", tmp_path, seed=3, deviations=chosen)
    switches = "+learning_rate=parser-default+training_budget=parser-default"
    assert order.path == tmp_path / f"tiny{switches}.safetensors"
    assert order.command == f"gauntlet train tecoa{switches} --backbone tiny --data pictures --seed 3"


def test_the_pin_that_is_reported_opens_the_checkpoint(tiny_backbone: Backbone, tmp_path: Path) -> None:
    said: list[str] = []
    order = Order("tecoa", "tiny", tmp_path / "pictures", tmp_path, report=said.append)
    tower = {n: p + 1 for n, p in tiny_backbone.clip.visual.named_parameters()}
    save_checkpoint(order.path, tiny_backbone, tower, order.command)
    assert order.pinned(tiny_backbone) == order.path
    (tmp_path / "checkpoints.toml").write_text(said[0])
    pin = read_pins(tmp_path)["tiny"]
    assert (pin.trained_on, pin.command) == ("pictures", order.command)
    difference = load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with="")
    assert all(torch.allclose(d, torch.ones_like(d), atol=0.01) for d in difference.values())
