"""A training as asked for: what its result is called, what makes it again, and the pin that a defence then checks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.cli.train_all import trainable
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.files import write_atomically
from vlm_gauntlet.methods.listed import HERE as METHODS
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.training.checkpoint import load_checkpoint, packed_difference
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.pins import read_pins


def test_deviations_are_part_of_the_name_in_one_order(tmp_path: Path) -> None:
    chosen = {"training_budget": "parser-default", "learning_rate": "parser-default"}
    job = TrainingJob("tecoa", tmp_path, "tiny", tmp_path / "pictures", tmp_path, seed=3, deviations=chosen)
    switches = "+learning_rate=parser-default+training_budget=parser-default"
    assert job.path == tmp_path / f"tiny{switches}.safetensors"
    assert job.command == f"gauntlet train tecoa{switches} --backbone tiny --data pictures --seed 3"


@pytest.mark.parametrize("name", trainable())
def test_a_switch_at_its_default_is_not_named(name: str, tmp_path: Path) -> None:
    """What is trained is found again: a defence looks for the switches that are not at their default."""
    defence = method(name).defence
    cards = {d.name: d.choices for d in defence.card.deviations}
    assert getattr(defence, "at_inference", frozenset()) - {"mix"} <= cards.keys()
    for switch, choices in cards.items():
        jobs = [TrainingJob(name, METHODS / name, "tiny", tmp_path, tmp_path, deviations={switch: c}) for c in choices]
        wanted = ["", *(f"+{switch}={choice}" for choice in choices[1:])]
        assert [job.path.stem for job in jobs] == [f"tiny{suffix}" for suffix in wanted]
        assert [job.switches[switch] for job in jobs] == list(choices)
        assert jobs[0].switches == {n: first for n, (first, *_) in cards.items()}
        assert jobs[0].command.startswith(f"gauntlet train {name} --backbone tiny")


def test_the_command_says_what_was_asked_beside_the_recipe(tmp_path: Path) -> None:
    job = TrainingJob("tapt", tmp_path, "tiny", tmp_path / "pictures", tmp_path, epochs=2, shots=4, wanted="mine.toml")
    assert job.command.endswith("--seed 0 --epochs 2 --shots 4 --recipe mine.toml")


def tower_of(backbone: Backbone) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(0)
    named = backbone.clip.visual.named_parameters()
    return {n: p + 0.01 * torch.randn(p.shape, generator=noise) for n, p in named}


def test_the_pin_that_is_reported_opens_the_checkpoint(tiny_backbone: Backbone, tmp_path: Path, job_of) -> None:
    said: list[str] = []
    job, tower = job_of("tecoa", tmp_path, report=said.append), tower_of(tiny_backbone)
    assert job.finish(packed_difference(tiny_backbone.clip.visual.state_dict(), tower)) == job.path
    (tmp_path / "checkpoints.toml").write_text(said[0])
    pin = read_pins(tmp_path)["tiny"]
    assert (pin.trained_on, pin.command) == ("noise", job.command)
    difference = load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with="")
    for name, tensor in tiny_backbone.tuned(difference).clip.visual.named_parameters():
        assert torch.allclose(tensor, tower[name], atol=4e-4), name
    with pytest.raises(UnavailableError, match="train it"):
        load_checkpoint(tmp_path, "other", tiny_backbone, train_with="gauntlet train")
    other = tiny_backbone.tuned({})
    other.digest = "another"
    with pytest.raises(GauntletError, match="the backbone it was trained from"):
        load_checkpoint(tmp_path, "tiny", other, train_with="")
    write_atomically(tmp_path / "tiny.safetensors", b"\0" * pin.size)
    with pytest.raises(GauntletError, match="SHA-256"):
        load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with="")
