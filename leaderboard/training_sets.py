"""Which training set a method's model saw, and whether a test set is in-distribution for it, or zero-shot."""

import inspect
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vlm_gauntlet import fixtures
from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.training.pins import read_pins

FILE = Path(next(iter(fixtures.__path__))) / "data" / "training_sets.toml"
Setting = Literal["in-distribution", "other style", "zero-shot", "unknown"]


class TrainingSet(BaseModel):
    """Names of test sets that show its classes, and of those that show them in another style."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[str, ...]
    styles: tuple[str, ...]


@cache
def training_sets() -> dict[str, TrainingSet]:
    """By the name that a checkpoint's pin has.

    Raises:
        GauntletError: the file does not validate.
    """
    with reading("training sets", FILE, expected="classes and styles of each", fix="restore the file from git"):
        records = tomllib.loads(FILE.read_text(encoding="utf-8"))
        return {name: TrainingSet.model_validate(record) for name, record in records.items()}


def trained_on(method: str, backbone: str) -> str | None:
    """Training set of a method's model, by the pin of its checkpoint; None where no model was trained, or none is here.

    Of a composition (`ttc@tecoa`) it is the tower's. A switch without a checkpoint of its own acts on the method's.
    """
    stem, plus, switches = method.rpartition("@")[2].partition("+")
    defence = methods().get(stem)
    if defence is None or not defence.card.weights or defence.card.paradigm == "training-free":
        return None
    pins = read_pins(Path(inspect.getfile(defence)).parent)
    pin = pins.get(backbone + plus + switches) or pins.get(backbone)
    return pin.trained_on if pin else None


def setting(training_set: str, dataset: str) -> Setting:
    """What a test set is for a model that was trained on a set."""
    if (known := training_sets().get(training_set)) is None:
        return "unknown"
    if dataset in known.styles:
        return "other style"
    return "in-distribution" if dataset in known.classes else "zero-shot"
