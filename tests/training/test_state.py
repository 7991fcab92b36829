"""Saved states: any optimiser round trip, damage of any kind, and states of another training."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.training import state as state_file
from vlm_gauntlet.training.state import (
    State,
    optimiser_state,
    random_state,
    read_state,
    restore_optimiser,
    restore_random,
    restore_weights,
)
from vlm_gauntlet.training.trainer import fit

from .toy import Line, points, recipe

NAMES = ["a", "b", "c"]
IDENTITY = {"recipe": "r", "data": "d"}
OPTIMISERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.1, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9)),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.1),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.1, centered=True),
}


def made(kind: str) -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((2, 3), (4,), ())]
    return tensors, OPTIMISERS[kind]([{"params": tensors[:1]}, {"params": tensors[1:], "weight_decay": 0.1}])


def step(tensors: list[torch.Tensor], optimiser: torch.optim.Optimizer, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for tensor in tensors[: 3 if number % 2 else 2]:  # the last has no gradient in every other step
        tensor.grad = torch.randn(tensor.shape, generator=generator)
    optimiser.step()
    optimiser.zero_grad()


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(OPTIMISERS)), before=st.integers(0, 4), after=st.integers(1, 3))
def test_any_optimiser_goes_on_where_it_stood(kind: str, before: int, after: int, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("state") / "x.resume.safetensors"
    tensors, optimiser = made(kind)
    for number in range(before):
        step(tensors, optimiser, number)
    weights = dict(zip(NAMES, tensors, strict=True))
    State(1, before, weights, *optimiser_state(optimiser, NAMES), random_state({}), {}).write(path, IDENTITY)
    saved = read_state(path, IDENTITY)
    assert saved is not None and (saved.phase, saved.step) == (1, before)
    others, fresh = made(kind)
    restore_weights(dict(zip(NAMES, others, strict=True)), saved.weights)
    restore_optimiser(fresh, NAMES, saved.optimiser, saved.values)
    for number in range(before, before + after):
        step(tensors, optimiser, number)
        step(others, fresh, number)
    assert all(torch.equal(a, b) for a, b in zip(tensors, others, strict=True))


def test_random_streams_go_on_where_they_stood(tmp_path: Path) -> None:
    own = torch.Generator().manual_seed(4)
    torch.rand(3, generator=own)
    state = random_state({"stream": own})
    State(0, 0, {}, {}, {}, state, {"scale": 2.0}).write(tmp_path / "x", IDENTITY)
    expected = torch.rand(4, generator=own), torch.rand(4)
    saved, other = read_state(tmp_path / "x", IDENTITY), torch.Generator()
    assert saved is not None and saved.scale == {"scale": 2.0}
    restore_random({"stream": other}, saved.random)
    assert torch.equal(torch.rand(4, generator=other), expected[0]) and torch.equal(torch.rand(4), expected[1])


def test_what_an_optimiser_keeps_beside_tensors_is_refused() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight])

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with pytest.raises(GauntletError, match="LBFGS keeps list"):
        optimiser_state(optimiser, ["w"])


def killed_in(folder: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        fit(Line(kill_at=6), recipe(), points(), folder / "line.safetensors")
    return folder / "line.resume.safetensors"


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "text", "other"])
def test_a_damaged_state_is_one_clear_error(damage: str, tmp_path: Path) -> None:
    path = killed_in(tmp_path)
    whole = path.read_bytes()
    bad = {
        "truncated": whole[:-20], "one bit": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b"", "text": b"x" * 400,
        "other": None,
    }[damage]  # fmt: skip
    if bad is None:  # a safetensors file of something else
        bad = save({"weight/w": torch.ones(3)})
    path.write_bytes(bad)
    with pytest.raises(GauntletError, match="does not validate") as raised:
        fit(Line(), recipe(), points(), tmp_path / "line.safetensors")
    assert raised.value.where == str(path) and "remove" in raised.value.fix


def test_another_training_is_one_clear_error(tmp_path: Path) -> None:
    path, out = killed_in(tmp_path), tmp_path / "line.safetensors"
    other = Line()
    other.start = "elsewhere"
    for training, asked, data, said in (
        (Line(), recipe(epochs=4), points(), "recipe"), (Line(), recipe(), points(23), "data"),
        (Line(), recipe(), points(seed=1), "seed"), (other, recipe(), points(), "start"),
    ):  # fmt: skip
        with pytest.raises(GauntletError, match=f"state of another {said}") as raised:
            fit(training, asked, data, out)
        assert raised.value.where == str(path) and said in raised.value.fix


def test_other_weights_are_one_clear_error(tmp_path: Path) -> None:
    killed_in(tmp_path)
    training = Line()
    training.w = torch.ones(4)
    with pytest.raises(GauntletError, match="other weights: w"):
        fit(training, recipe(), points(), tmp_path / "line.safetensors")


def test_a_curve_that_lost_lines_is_one_clear_error(tmp_path: Path) -> None:
    killed_in(tmp_path)
    curve = tmp_path / "line.loss.csv"
    curve.write_text("".join(curve.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(GauntletError, match="a loss curve of 2 steps"):
        fit(Line(), recipe(), points(), tmp_path / "line.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"phase": -1}, "phase -1"), ({"step": "3"}, "step '3'"), ({"step": True}, "step True"),
        ({"phase": 7}, "of phase 7"), ({"step": 10**6}, "step 1000000"),
        ({"values": {"nobody/step": 1}}, "optimiser do not fit"),
    ],
)  # fmt: skip
def test_a_state_that_says_what_cannot_be_is_one_clear_error(
    damage: dict[str, object], said: str, tmp_path: Path
) -> None:
    """Rewritten with a digest that holds: nothing but what it says is wrong."""
    path = killed_in(tmp_path)
    header, tensors = state_file._read(path)
    where = json.loads(header["where"]) | damage
    header["where"] = json.dumps(where)
    path.write_bytes(save(tensors, header | {"digest": state_file._whole(header, tensors)}))
    with pytest.raises(GauntletError, match=said) as raised:
        fit(Line(), recipe(), points(), tmp_path / "line.safetensors")
    assert "remove" in raised.value.fix


def test_streams_of_another_kind_are_one_clear_error(tmp_path: Path) -> None:
    path = killed_in(tmp_path)
    header, tensors = state_file._read(path)
    for random in ({}, {"random/cpu": torch.zeros(3, dtype=torch.uint8)}):
        kept = {n: t for n, t in tensors.items() if not n.startswith("random/")} | random
        path.write_bytes(save(kept, header | {"digest": state_file._whole(header, kept)}))
        with pytest.raises(GauntletError, match="random streams do not fit"):
            fit(Line(), recipe(), points(), tmp_path / "line.safetensors")


def test_a_header_that_was_touched_does_not_validate(tmp_path: Path) -> None:
    path = killed_in(tmp_path)
    header, tensors = state_file._read(path)
    where = json.loads(header["where"])
    path.write_bytes(save(tensors, header | {"where": json.dumps({**where, "step": where["step"] - 1})}))
    with pytest.raises(GauntletError, match="digest differs"):
        fit(Line(), recipe(), points(), tmp_path / "line.safetensors")


@pytest.mark.parametrize(("call", "error"), [("os.fsync", errno.ENOSPC), ("os.replace", errno.EACCES),
                                             ("tempfile.mkstemp", errno.EROFS)])  # fmt: skip
def test_a_disk_that_takes_nothing_is_one_clear_error_and_loses_no_state(
    call: str, error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = killed_in(tmp_path)
    before = path.read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(call, fails)
        with pytest.raises(GauntletError, match="cannot be written") as raised:
            fit(Line(), recipe(), points(), tmp_path / "line.safetensors")
    assert os.strerror(error) in str(raised.value) and str(tmp_path) in raised.value.where
    assert path.read_bytes() == before and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    fit(Line(), recipe(), points(), tmp_path / "line.safetensors")


def test_a_folder_in_the_place_of_a_state_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "line.resume.safetensors").mkdir()
    with pytest.raises(GauntletError, match="does not validate"):
        fit(Line(), recipe(), points(), tmp_path / "line.safetensors")
