"""Parsers of what describes methods, protocols, trainings and their weights."""

import csv
import io
import json
import shutil
import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from safetensors.torch import save

from vlm_gauntlet import fixtures, methods
from vlm_gauntlet.attacks.protocols import read_protocols
from vlm_gauntlet.attacks.universal import Universal
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.packing import pack
from vlm_gauntlet.fixtures.reported import read_family
from vlm_gauntlet.fixtures.sources import read_source
from vlm_gauntlet.leaderboard.trainings import read_sheet
from vlm_gauntlet.methods.card import read_card
from vlm_gauntlet.methods.claims import read_claims
from vlm_gauntlet.methods.cola.bank_file import read_descriptions
from vlm_gauntlet.suites.findings.registry import measured
from vlm_gauntlet.suites.migration import migrate
from vlm_gauntlet.suites.mini_claims import read_mini_claims
from vlm_gauntlet.suites.tiers import read_tier
from vlm_gauntlet.training.checkpoint import load_checkpoint
from vlm_gauntlet.training.curve import LossCurve
from vlm_gauntlet.training.pins import read_pins
from vlm_gauntlet.training.recipe import read_recipe
from vlm_gauntlet.training.state import State, read_state

from .mutations import as_bytes, as_csv, as_json, as_safetensors, as_toml
from .targets import Target

METHODS = Path(next(iter(methods.__path__)))
DATA = Path(next(iter(fixtures.__path__))) / "data"
ROWS = 5  # of a table: changes should not drown in rows
BASE = cast(Backbone, SimpleNamespace(name="tiny", digest="b" * 64))
IDENTITY = {"recipe": "r" * 64}


def targets() -> Iterator[Target]:
    """See `targets.py`."""
    method = METHODS / "tecoa"
    yield Target("card", [_toml(method / "card.toml")], as_toml, _part_of_card("card.toml"))
    yield Target("deviations", [_toml(method / "deviations.toml")], as_toml, _part_of_card("deviations.toml"))
    yield Target("measurements", [_toml(method / "measured.toml")], as_toml, _part_of_card("measured.toml"))
    yield Target("pins", [_toml(method / "checkpoints.toml")], as_toml, _at("checkpoints.toml", _pins))
    yield Target("claims", [_csv(method / "claims.csv")], as_csv, _at("claims.csv", read_claims))
    yield Target("mini claims", [_csv(method / "mini_claims.csv")], as_csv, _at("mini_claims.csv", _mini_claims))
    yield Target("trainings", [_csv(method / "trainings.csv")], as_csv, _at("trainings.csv", read_sheet))
    yield Target("findings", [_csv(_measured_file())], as_csv, _at("measured.csv", measured))
    yield Target("protocol", _tomls(DATA / "protocols"), as_toml, _at("mine.toml", read_protocols))
    yield Target("reported protocols", _tomls(DATA / "reported"), as_toml, _at("mine.toml", read_family))
    yield Target("source", _tomls(DATA / "sources"), as_toml, _at("mine.toml", read_source))
    yield Target("tier", _tomls(DATA / "tiers"), as_toml, _at("mine.toml", read_tier))
    yield Target("recipe", [*_recipes()], as_toml, _recipe)
    yield Target("descriptions", [{"cat": ["A cat."], "dog": ["A dog.", "Dogs."]}], as_json, _descriptions)
    packed = pack({"a": torch.rand(4, 6), "b": torch.rand(3)}, int8={"a"})
    yield Target("checkpoint", [_header(save(packed))], as_safetensors, _checkpoint)
    yield Target("perturbation", [_header(save({"p": torch.rand(3, 4, 4)}))], as_safetensors, _perturbation)
    yield Target("training state", [_state()], as_bytes, _training_state)
    yield Target("loss curve", [[["phase", "step", "rate", "loss", "t"], ["m", "0", "1", "2", "2"]]], as_csv, _curve)


def _toml(path: Path) -> Any:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _tomls(folder: Path) -> list[Any]:
    return [_toml(path) for path in sorted(folder.glob("*.toml"))]


def _csv(path: Path) -> Any:
    return [*csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))][:ROWS]


def _measured_file() -> Path:
    from vlm_gauntlet.suites.findings.registry import MEASURED

    return MEASURED


def _at(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], None]:
    def written(data: bytes, folder: Path) -> None:
        path = folder / name.partition(".")[0] / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        read(path)

    return written


def _part_of_card(name: str) -> Callable[[bytes, Path], None]:
    def written(data: bytes, folder: Path) -> None:
        place = folder / name / "tecoa"
        if not place.is_dir():
            place.mkdir(parents=True)
            for beside in ("card.toml", "deviations.toml", "measured.toml"):
                shutil.copy(METHODS / "tecoa" / beside, place / beside)
        (place / name).write_bytes(data)
        card = read_card(place)
        card.assuming({}), card.timing("miniclip-vit")

    return written


def _pins(path: Path) -> None:
    read_pins(path.parent)


def _mini_claims(path: Path) -> None:
    read_mini_claims(path)
    migrate(path)


def _recipes() -> Iterator[Any]:
    for path in sorted(METHODS.glob("*/recipes/reproduction.toml")):
        yield _toml(path)


def _recipe(data: bytes, folder: Path) -> None:
    def read(path: Path) -> None:
        recipe = read_recipe(path, {"step": "as_coded"})
        for phase in recipe.phases:
            phase.length(1 << 20)
            phase.schedule.rate(phase.optimiser.learning_rate, 1, 10)

    _at("mine.toml", read)(data, folder)


def _descriptions(data: bytes, folder: Path) -> None:
    read_descriptions.cache_clear()
    _at("bank.json", read_descriptions)(data, folder)


def _header(data: bytes) -> Any:
    length = struct.unpack("<Q", data[:8])[0]
    return [json.loads(data[8 : 8 + length]), data[8 + length :].hex()]


def _checkpoint(data: bytes, folder: Path) -> None:
    """Of somebody who writes the pin, too."""
    (folder / "w.safetensors").write_bytes(data)
    pin = f'sha256 = "{sha256(data)}"\nsize = {len(data)}\nbase = "{BASE.digest}"\ncommand = "none"\n'
    (folder / "checkpoints.toml").write_text(f"[w]\n{pin}")
    load_checkpoint(folder, "w", BASE, train_with="gauntlet train")


def _perturbation(data: bytes, folder: Path) -> None:
    (folder / "p.safetensors").write_bytes(data)
    Universal("linf", 0.1, file=str(folder / "p.safetensors"), sha256=sha256(data)).perturbation()


def _state() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "s"
        State(0, 3, {"w": torch.ones(2)}, {"w/m": torch.ones(2)}, {"w/step": 3}, {}, 1.0).write(path, IDENTITY)
        return path.read_bytes()


def _training_state(data: bytes, folder: Path) -> None:
    (folder / "s").write_bytes(data)
    read_state(folder / "s", IDENTITY)


def _curve(data: bytes, folder: Path) -> None:
    (folder / "c.loss.csv").write_bytes(data)
    LossCurve(folder / "c.loss.csv", ["t"], done=1).close()
