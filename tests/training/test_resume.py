"""Killed anywhere and run again: the same bytes, and a curve without a step lost or twice. For every trainer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.methods.clipure_diff.train import PriorTraining
from vlm_gauntlet.methods.mmcoa.train import MMCoATraining
from vlm_gauntlet.methods.tapt.train import PromptTraining
from vlm_gauntlet.methods.tecoa.train import TeCoATraining
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.miniclip import train as miniclip
from vlm_gauntlet.training.miniclip.corpus import Corpus
from vlm_gauntlet.training.miniclip.emoji import Concept
from vlm_gauntlet.training.recipe import read_recipe
from vlm_gauntlet.training.trainer import Training, fit

from .toy import Line, points, recipe

ROOT = Path(__file__).parents[2]
SGD = 'optimiser = { name = "sgd", learning_rate = 0.05, momentum = 0.9 }\n'
ATTACK = 'attack = { eps = "8/255", steps = 2, step_size = "8/255" }\n'
SHORT = {
    "tecoa": "epochs = 3\nbatch_size = 8\nsave_every = 2\nschedule = { warmup = 3 }\n" + SGD + ATTACK,
    "tapt": "epochs = 2\nbatch_size = 4\nshots = 2\nsave_every = 3\n" + SGD + ATTACK
    + '[[phases]]\nname = "robust"\n[[phases]]\nname = "clean"\nattack = { eps = "0" }\n',
    "clipure_diff": "epochs = 4\nbatch_size = 8\nsave_every = 3\n"
    + 'optimiser = { name = "adamw", learning_rate = 1e-3 }\n',
    "mmcoa": "epochs = 2\nbatch_size = 8\nsave_every = 2\n" + ATTACK
    + 'text = { source = "characters", candidates = 2 }\n'
    + 'optimiser = { name = "adam", learning_rate = 1e-3, groups = { tokens = { learning_rate = 0 } } }\n',
}  # fmt: skip
TRAINING: dict[str, type[Training]] = {"tecoa": TeCoATraining, "tapt": PromptTraining, "clipure_diff": PriorTraining,
                                      "mmcoa": MMCoATraining}  # fmt: skip


def kill(training: type[Training], at: int, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The next trainings die in the loss of their call number `at`."""
    calls, loss = 0, training.loss

    def dying(self, batch, phase):
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return loss(self, batch, phase)

    monkeypatch.setattr(training, "loss", dying)
    return monkeypatch


@pytest.mark.parametrize(
    ("method", "at", "deviations"),
    [
        ("tecoa", 1, {}), ("tecoa", 6, {"attack_gradients": "accumulated"}), ("tecoa", 9, {}),
        ("tapt", 3, {}), ("tapt", 5, {"variant": "VLI"}), ("tapt", 7, {"variant": "VLI"}),
        ("clipure_diff", 2, {}), ("clipure_diff", 7, {}), ("mmcoa", 5, {}),
    ],
)  # fmt: skip
def test_killed_and_resumed_is_undisturbed(
    method: str, at: int, deviations: dict[str, str], job_of: Callable[..., TrainingJob], tmp_path: Path
) -> None:
    (tmp_path / "short.toml").write_text(SHORT[method])
    train = import_module(f"vlm_gauntlet.methods.{method}.train").train

    def job(name: str) -> TrainingJob:
        return job_of(method, tmp_path / name, wanted=str(tmp_path / "short.toml"), deviations=deviations)

    whole = train(job("whole"))
    with pytest.MonkeyPatch.context() as patch:
        kill(TRAINING[method], at, patch)
        with pytest.raises(KeyboardInterrupt):
            train(job("killed"))
    torch.rand(5)  # nothing may hang on the global generator
    resumed = train(job("killed"))
    assert sha256(resumed.read_bytes()) == sha256(whole.read_bytes())
    curves = [p.with_name(f"{p.stem}.loss.csv").read_text() for p in (whole, resumed)]
    assert curves[0] == curves[1] and len(curves[0].splitlines()) > at
    assert {p.suffix for p in resumed.parent.iterdir()} == {".csv", ".safetensors", ".svg"}
    assert not list(resumed.parent.glob("*.resume.*")), "a finished training leaves no state behind"


def test_miniclip_killed_and_resumed_is_undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 40, 40, 4), dtype=np.uint8)
    concepts = [Concept(f"thing {i}", (f"thing {i}",), ("bird", "garment", "digit")[i % 3]) for i in range(12)]
    corpus = Corpus(concepts, pixels, np.arange(60) % 12, np.array(["train"] * 60))
    table = 0.05 * torch.randn(49408, 96, generator=torch.Generator().manual_seed(1))
    short = (tmp_path / "short.toml", miniclip.RECIPE.read_text().replace("= 256", "= 8").replace("= 50", "= 2"))
    short[0].write_text(short[1])
    for name, value in (("read_corpus", lambda *a: corpus), ("minilm_rows", lambda *a: table), ("RECIPE", short[0])):
        monkeypatch.setattr(miniclip, name, value)

    def weights(folder: str) -> bytes:
        miniclip.train_miniclip(tmp_path / folder, tmp_path, steps=5, progress=False)
        assert not list((tmp_path / folder).glob("*.resume.*"))
        return (tmp_path / folder / "weights.safetensors").read_bytes()

    whole = weights("whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill(miniclip.MiniCLIPTraining, 4, patch)
        weights("killed")
    assert sha256(weights("killed")) == sha256(whole)
    curves = [(tmp_path / name / "weights.loss.csv").read_text() for name in ("whole", "killed")]
    assert curves[0] == curves[1] and len(curves[0].splitlines()) == 6


SCRIPT = """
import sys, time
from pathlib import Path
from tests_toy import Line, points, recipe
from vlm_gauntlet.training.trainer import fit

class Slow(Line):
    def loss(self, batch, phase):
        time.sleep(0.05)
        return super().loss(batch, phase)

fit(Slow(), recipe(epochs=40), points(), Path(sys.argv[1]))
"""


def test_a_real_kill_loses_no_step(tmp_path: Path) -> None:
    (tmp_path / "tests_toy.py").write_text((Path(__file__).parent / "toy.py").read_text())
    out, path = tmp_path / "line.safetensors", os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "line.resume.safetensors").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.17)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed, whole = Line(), Line()
    fit(resumed, recipe(epochs=40), points(), out)
    fit(whole, recipe(epochs=40), points(), tmp_path / "whole.safetensors")
    assert 0 < resumed.calls < whole.calls
    assert torch.equal(resumed.w, whole.w) and torch.equal(resumed.b, whole.b)
    assert (tmp_path / "line.loss.csv").read_text() == (tmp_path / "whole.loss.csv").read_text()


def test_a_finished_training_that_was_not_packed_trains_no_step_again(tmp_path: Path) -> None:
    first, second = Line(), Line()
    for training in (first, second):
        fit(training, recipe(), points(), tmp_path / "line.safetensors")
    assert first.calls == 12 and second.calls == 0 and torch.equal(first.w, second.w)


def test_the_state_of_a_shipped_recipe_is_saved_often_enough() -> None:
    """At most some minutes are lost: no recipe of an embedded backbone waits for more than 500 steps."""
    for path in (ROOT / "methods").glob("*/recipes/*.toml"):
        assert read_recipe(path).save_every <= 500, path
