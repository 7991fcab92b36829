"""Asks again, elsewhere, what an attack was answered: a defence may not know who it is talking to.

The scorer sits in a fresh process; it gets the images that the attack sent, without labels, sample ids or the attack's
frames around them. A defence that draws nothing is asked under keys that nobody can foretell.
"""

import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_gauntlet.attacks.indicators import ROUNDING
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.victims import Recorder

from .scoring import Scorer

REPLAYED = 8  # attacked images of a randomised defence that are asked again under secret keys


def secret_keys(count: int) -> tuple[int, ...]:
    """Keys that tell nothing, of nothing."""
    return tuple(secrets.randbits(63) for _ in range(count))


def gap(ours: Tensor, theirs: Tensor) -> Tensor:
    """Largest difference of logits [B], as a fraction of their range."""
    span = (theirs.amax(1) - theirs.amin(1)).clamp_min(1e-6)
    return (ours - theirs).abs().amax(1) / span


def replayed(scorer: Scorer, recorder: Recorder, *, randomised: bool) -> dict[str, Tensor]:
    """How far the logits of recorded calls move in the scorer's process: `replay_gap` [calls x B].

    Args:
        scorer: who is asked.
        recorder: the calls.
        randomised: whether the defence draws; it then gets the same streams, else secret ones.
    """
    gaps = []
    for call in recorder.calls:
        keys = call.draws.keys if randomised else secret_keys(len(call.images))
        again = scorer.score(call.images, call.prompts, keys, (call.draws.call,))
        gaps.append(gap(call.logits, again.logits))
    return {"replay_gap": torch.cat(gaps)} if gaps else {}


def regrouped(scorer: Scorer, recorder: Recorder, *, randomised: bool) -> Tensor:
    """How far the logits of one recorded call move when its images come in other company, drawn in secret [1 or 0].

    It is the second largest gap of the images: one answer that stands on an edge may flip by rounding. What rounding
    alone may do is 0, so that two runs of an honest defence tell the same.

    Args:
        scorer: who is asked.
        recorder: the calls.
        randomised: as in `replayed`.
    """
    calls = [call for call in recorder.calls if len(call.images) > 3]
    if not calls:
        return torch.zeros(0)
    call = secrets.choice(calls)
    count = len(call.images)
    order = torch.tensor(secrets.SystemRandom().sample(range(count), count))
    keys = call.draws.keys if randomised else secret_keys(count)
    parts = [
        scorer.score(call.images[part], call.prompts, [keys[i] for i in part.tolist()], (call.draws.call,)).logits
        for part in order.tensor_split([2 + secrets.randbelow(count - 3)])  # nobody alone
    ]
    moved = gap(call.logits[order], torch.cat(parts)).topk(2).values[1:]
    return torch.where(moved > ROUNDING, moved, 0.0)


def replayed_draws(
    scorer: Scorer, images: Tensor, prompts: PromptSet, labels: Tensor, right: Tensor, calls: Sequence[int]
) -> dict[str, Tensor]:
    """Of a randomised defence: right answers on the seed's streams and on secret ones, of the first few samples.

    Args:
        scorer: who is asked.
        images, prompts, labels: the attacked batch.
        right: [draws, B], 1 where the answer on the seed's streams was right.
        calls: how often it is asked.

    Returns:
        `seeded` and `secret`, each [samples x calls] of 0 and 1.
    """
    few = images[:REPLAYED]
    again = scorer.score(few, prompts, secret_keys(len(few)), calls)
    return {
        "seeded": right[: len(calls), : len(few)].flatten().float(),
        "secret": (again.classes == labels[: len(few)]).float().flatten(),
    }
