"""Where a training stands, in one safetensors file, whole or absent: weights, optimiser, step, random streams."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.fixtures.errors import GauntletError, problems, reading
from vlm_gauntlet.fixtures.files import sha256, write_atomically, writing
from vlm_gauntlet.fixtures.parts import is_there

START_AGAIN = "remove the file to start again"


@dataclass(frozen=True)
class State:
    """A training between two steps.

    Args:
        phase, step: the next step, and the number of its phase.
        weights: everything trained, by name.
        optimiser: state of the running phase's optimiser: tensors by `<parameter>/<key>`.
        values: that state's numbers, booleans and None, likewise.
        random: states of random generators as bytes, by name.
        scale: of mixed precision.
    """

    phase: int
    step: int
    weights: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    values: Mapping[str, Any]
    random: Mapping[str, Tensor]
    scale: Mapping[str, Any]

    def refuse_beyond(self, lengths: Sequence[int]) -> None:
        """Raises a GauntletError unless phase and step lie within phases of these lengths."""
        if self.phase >= len(lengths) or self.step > lengths[self.phase]:
            raise GauntletError(
                f"a training state at step {self.step} of phase {self.phase}",
                expected=f"phases of {', '.join(map(str, lengths))} steps", where="the resumed training",
                fix=START_AGAIN,
            )  # fmt: skip

    def write(self, path: Path, identity: Mapping[str, str]) -> None:
        """Writes the file.

        Args:
            path: of the file.
            identity: what the training is of (recipe, data, seed, start); only the same may go on from here.

        Raises:
            GauntletError: the disk is full, or the folder cannot be written.
        """
        kinds = {"weight": self.weights, "optimiser": self.optimiser, "random": self.random}
        tensors = {
            f"{kind}/{name}": tensor.detach().cpu().contiguous()
            for kind, named in kinds.items()
            for name, tensor in named.items()
        }
        where = {"phase": self.phase, "step": self.step, "values": self.values, "scale": self.scale}
        header = {"identity": json.dumps(dict(identity)), "where": json.dumps(where)}
        with writing(path, fix="make room, or choose another --out; the state before it is whole, and is gone on from"):
            write_atomically(path, save(tensors, header | {"digest": _whole(header, tensors)}))


def read_state(path: Path, identity: Mapping[str, str]) -> State | None:
    """What `State.write` wrote; None where there is no file.

    Raises:
        GauntletError: the file is damaged, or of another training; says in what it differs.
    """
    if not is_there(path):
        return None
    with reading("a training state", path, expected="a whole file, as training.state writes it", fix=START_AGAIN):
        header, tensors = _read(path)
        if header["digest"] != _whole(header, tensors):
            raise ValueError("its digest differs from what it holds")
        found, where = json.loads(header["identity"]), json.loads(header["where"])
        parts: dict[str, dict[str, Tensor]] = {"weight": {}, "optimiser": {}, "random": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = tensor
        if any(type(where[name]) is not int or where[name] < 0 for name in ("phase", "step")):
            raise ValueError(f"phase {where['phase']!r}, step {where['step']!r}")
        state = State(
            where["phase"], where["step"], parts["weight"], parts["optimiser"], where["values"], parts["random"],
            where["scale"],
        )  # fmt: skip
    others = [name for name in identity if found.get(name) != identity[name]]
    if others:
        raise GauntletError(
            f"training state of another {', another '.join(others)}: "
            + ", ".join(f"{name} {str(found.get(name))[:16]}" for name in others),
            expected=", ".join(f"{name} {identity[name][:16]}" for name in others),
            where=str(path), fix=f"{START_AGAIN}, or give the {' and '.join(others)} that made it",
        )  # fmt: skip
    return state


def restore_weights(weights: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copies saved tensors into those of the same names.

    Raises:
        GauntletError: other names or shapes.
    """
    mine, theirs = ({n: tuple(t.shape) for n, t in named.items()} for named in (weights, saved))
    if mine != theirs:
        differ = sorted(n for n in {*mine, *theirs} if mine.get(n) != theirs.get(n))
        raise GauntletError(
            f"a training state with other weights: {', '.join(differ[:3])}", expected=f"{len(mine)} named tensors",
            where="the resumed training", fix=START_AGAIN,
        )  # fmt: skip
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(saved[name])


def optimiser_state(optimiser: torch.optim.Optimizer, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of any of torch's optimisers: its tensors and its plain values, by `<parameter>/<key>`.

    Args:
        optimiser: whichever.
        names: of its parameters, in the order of its groups.

    Raises:
        GauntletError: it keeps something else than tensors and plain values (LBFGS keeps lists).
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            name = f"{names[index]}/{key}"
            if isinstance(value, Tensor):
                tensors[name] = value
            elif value is None or isinstance(value, (bool, int, float, str)):
                values[name] = value
            else:
                raise GauntletError(
                    f"{type(optimiser).__name__} keeps {type(value).__name__} as {key!r}",
                    expected="tensors and plain values", where="the recipe's optimiser", fix="sgd, adam or adamw",
                )  # fmt: skip
    return tensors, values


def restore_optimiser(
    optimiser: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Undoes `optimiser_state`, into a fresh optimiser over the same parameters.

    Raises:
        GauntletError: the state is of other parameters.
    """
    index = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Any]] = {}
    with _fitting("optimiser"):
        for full, value in {**tensors, **values}.items():
            name, _, key = full.rpartition("/")
            state.setdefault(index[name], {})[key] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def random_state(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """States of torch's global generators, on each device, and of named ones."""
    devices = {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return {"cpu": torch.get_rng_state(), **devices, **{f"own:{n}": g.get_state() for n, g in generators.items()}}


def restore_random(generators: Mapping[str, torch.Generator], saved: Mapping[str, Tensor]) -> None:
    """Undoes `random_state`; a device that is not here any more is left out.

    Raises:
        GauntletError: a stream is missing, or its state is of another version of torch.
    """
    with _fitting("random streams"):
        torch.set_rng_state(saved["cpu"])
        for index in range(torch.cuda.device_count()):
            if f"cuda:{index}" in saved:
                torch.cuda.set_rng_state(saved[f"cuda:{index}"], index)
        for name, generator in generators.items():
            generator.set_state(saved[f"own:{name}"])


@contextmanager
def _fitting(part: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise GauntletError(
            f"a training state whose {part} do not fit: {problems(error)[0]}", expected="what this training writes",
            where="the resumed training", fix=START_AGAIN,
        ) from error  # fmt: skip


def _whole(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Digest of everything that a state's file holds."""
    return sha256("\n".join([digest_of(tensors), header["identity"], header["where"]]).encode())


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, str] = file.metadata() or {}
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors' own error derives from Exception alone
        raise ValueError(error) from error


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors: safetensors itself checks lengths, not content."""
    parts = []
    for name, tensor in sorted(tensors.items()):
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        parts.append(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:{sha256(content)}")
    return sha256("\n".join(parts).encode())
