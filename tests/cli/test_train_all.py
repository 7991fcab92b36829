"""`gauntlet train --all`: the checkpoints of the clone, by their pins, each in a folder of its own."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli import train_all
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.datasets import EMBEDDED
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.training.pins import Pin


def pin(**fields: object) -> Pin:
    usual = {"sha256": "0" * 64, "size": 1, "base": "b", "command": "gauntlet train tecoa", "trained_on": "digits"}
    return Pin.model_validate({**usual, **fields})


def asked(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *map(str, words)])
    return result.exit_code, result.output


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    shutil.copytree(EMBEDDED / "digits", tmp_path / "digits")
    (tmp_path / "digits" / "test").rename(tmp_path / "digits" / "train")
    return tmp_path / "digits"


def test_every_pinned_checkpoint_of_a_backbone_is_found() -> None:
    found = {(one.method, one.switches) for one in train_all.pinned("miniclip-vit")}
    assert {("tecoa", ""), ("tapt", ""), ("clipure_diff", "")} <= found
    assert all(one.pin.command.startswith(f"gauntlet train {one.method}") for one in train_all.pinned("miniclip-cnn"))


def test_what_stands_is_not_trained_again_and_bytes_are_compared(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'epochs = 9\nbatch_size = 10\noptimiser = { name = "sgd", learning_rate = 0.01 }\n'
        'attack = { eps = "8/255", steps = 1, step_size = "8/255" }\n'
    )
    command = (
        f"gauntlet train tecoa --backbone miniclip-vit --data digits --seed 0 --recipe {recipe} --epochs 1 --shots 2"
    )
    known = [train_all.Pinned("tecoa", "", pin(command=command))]
    monkeypatch.setattr(train_all, "pinned", lambda _: known)
    words = ("--all", "--backbone", "miniclip-vit", "--data", digits, "--out", tmp_path / "out")
    code, said = asked(*words)
    made = tmp_path / "out" / "tecoa" / "miniclip-vit.safetensors"
    assert code == 0 and "tecoa: other bytes than those of the clone" in said
    assert len(made.with_name("miniclip-vit.loss.csv").read_text().splitlines()) == 1 + 2, "shots and epochs of the pin"
    known[:] = [
        train_all.Pinned("tecoa", "", pin(command=command, sha256=sha256(made.read_bytes()))),
        train_all.Pinned("tapt", "", pin(trained_on="elsewhere")),
    ]
    before = made.stat().st_mtime_ns
    code, said = asked(*words)
    assert code == 0 and "stands in" in said and "tecoa: the bytes of the clone" in said
    assert "tapt: not trained, since it was made on elsewhere" in said and made.stat().st_mtime_ns == before


def test_data_that_nothing_was_made_on_is_refused(digits: Path) -> None:
    code, said = asked("--all", "--backbone", "miniclip-vit", "--data", digits)
    assert code == 2 and "miniclip_vit_train" in said and "--data" in said


@pytest.mark.parametrize("words", [("--all", "tecoa"), ()])
def test_a_method_or_all(words: tuple[str, ...], digits: Path) -> None:
    code, said = asked(*words, "--backbone", "miniclip-vit", "--data", digits)
    assert code == 2 and "a method, or --all" in said
