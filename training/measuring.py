"""Times a training without doing it: a few steps of each phase stand for all of them."""

from dataclasses import dataclass

from vlm_gauntlet.fixtures.device import seconds_on

from .engine import Engine
from .recipe import Recipe
from .samples import Samples
from .trainer import Training, fit

WARM, TIMED = 1, 4


@dataclass(frozen=True)
class Steps:
    """Steps of all phases, and the seconds that they would take."""

    count: int
    seconds: float


def timed_steps(training: Training, recipe: Recipe, samples: Samples, engine: Engine) -> Steps:
    """Takes `TIMED` steps of each phase after `WARM` others; the weights are spoiled by them.

    Raises:
        GauntletError: as `fit`.
    """
    count, seconds = 0, 0.0
    for phase in recipe.phases:
        length = phase.length(len(samples))
        taken = min(TIMED, length)
        spent = 0.0
        for steps in (WARM, taken):
            short = phase.model_copy(update={"epochs": None, "steps": steps})
            start = seconds_on(engine.device)
            fit(training, recipe.model_copy(update={"phases": (short,)}), samples, None, engine=engine)
            spent = seconds_on(engine.device) - start
        count, seconds = count + length, seconds + spent / taken * length
    return Steps(count, seconds)
