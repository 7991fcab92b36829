"""The switches of a training: all that a method has, and the job named by those that are not at their defaults."""

from dataclasses import replace

from vlm_gauntlet.training.job import TrainingJob

from .card import Card
from .own_checkpoint import not_default


def settled(job: TrainingJob, card: Card) -> tuple[TrainingJob, dict[str, str]]:
    """The job under the name by which `own_checkpoint` finds its result, and every switch with its choice."""
    switches = {d.name: d.choices[0] for d in card.deviations} | dict(job.deviations)
    return replace(job, deviations=not_default(switches, card.deviations)), switches
