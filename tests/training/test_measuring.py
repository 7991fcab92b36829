"""What a training costs, from a few of its steps."""

import inspect
import tomllib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.training import measuring
from vlm_gauntlet.training.cost import TrainingCost
from vlm_gauntlet.training.engine import start_engine
from vlm_gauntlet.training.measuring import timed_steps
from vlm_gauntlet.training.pins import read_pins
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch

from .toy import Line, points, recipe


class Clocked(Line):
    """Its first steps take 100 seconds; later ones 3 in the phase `bias`, 2 in any other."""

    now = 0.0

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        first = self.calls == 0
        self.now += 100 if first else 3 if phase.name == "bias" else 2
        return super().loss(batch, phase)


def test_each_phase_is_timed_behind_its_first_step_and_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Clocked()
    monkeypatch.setattr(measuring, "seconds_on", lambda device: training.now)
    two = recipe(phases=[{"name": "slope", "epochs": 3}, {"name": "bias", "epochs": None, "steps": 2}])
    found = timed_steps(training, two, points(22), start_engine())
    assert (found.count, found.seconds) == (3 * 4 + 2, 12 * 2 + 2 * 3)
    assert training.calls == 1 + 4 + 1 + 2, "no more steps than a phase has"


def test_a_job_that_measures_writes_nothing(tmp_path: Path, job_of) -> None:
    from vlm_gauntlet.methods.tecoa.train import train

    said: list[str] = []
    job = job_of("tecoa", tmp_path / "out", epochs=2, measure=True, report=said.append, wanted=str(short(tmp_path)))
    train(job)
    (table,) = tomllib.loads("\n".join(said))["trainings"]
    cost = TrainingCost.model_validate(table)
    visual = job.base.clip.visual
    assert (cost.checkpoint, cost.steps) == ("tiny", 2 * 4)  # 24 pictures, batches of 6
    assert cost.parameters == sum(p.numel() for p in visual.parameters()) and cost.seconds > 0
    assert f"{torch.get_num_threads()} thread" in cost.device and not (tmp_path / "out").exists()


def short(folder: Path) -> Path:
    path = folder / "short.toml"
    path.write_text(
        'epochs = 9\nbatch_size = 6\noptimiser = { name = "sgd", learning_rate = 0.01 }\n'
        'attack = { eps = "8/255", steps = 1, step_size = "8/255" }\n'
    )
    return path


def test_what_was_measured_is_of_checkpoints_that_are_here() -> None:
    for one in methods().values():
        pins = read_pins(Path(inspect.getfile(one)).parent)
        assert {cost.checkpoint for cost in one.card.trainings} <= pins.keys(), one.card.id
