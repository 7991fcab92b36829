"""A training of the clone begins again as it began: the losses of its first steps, digit by digit."""

import csv
from pathlib import Path

import pytest
import torch

from vlm_gauntlet import methods
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.methods.tecoa.train import TeCoATraining
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.trainer import fit

STEPS = 3
TECOA = Path(next(iter(methods.__path__))) / "tecoa"
FROZEN = Path(__file__).with_name("first_steps.csv")
ELSEWHERE = 1e-2  # relative: other kernels sum in another order, and signs of gradients flip


def first_losses(out: Path) -> list[dict[str, str]]:
    """What `gauntlet train tecoa --backbone miniclip-cnn --data tiny_imagenet` writes of its first steps."""
    data = dataset("tiny_imagenet").folder
    job = TrainingJob("tecoa", TECOA, "miniclip-cnn", data, out, progress=False)
    training = TeCoATraining(job.base, job.dataset.prompts, {})
    fit(training, job.recipe.lasting(steps=STEPS), job.samples(), out / "first.safetensors")
    with (out / "first.loss.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.mini
def test_tecoa_begins_as_it_began(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = first_losses(tmp_path)
    except UnavailableError as missing:
        pytest.skip(f"not run: {missing}")
    finally:
        torch.set_num_threads(threads)
    with FROZEN.open() as file:
        frozen = list(csv.DictReader(file))
    alike = frozen[0]["cpu"] == torch.backends.cpu.get_cpu_capability()
    for was, now in zip(frozen, found, strict=True):
        assert (was["step"], was["rate"]) == (now["step"], now["rate"])
        if alike:
            assert was["loss"] == now["loss"]
        assert float(now["loss"]) == pytest.approx(float(was["loss"]), rel=ELSEWHERE)
