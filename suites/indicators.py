"""Reads the indicators of a cell from what its batches recorded."""

from collections.abc import Sequence
from itertools import chain

import torch

from vlm_gauntlet.attacks import indicators
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Indicator

from .journal import BatchResult

BROKEN_ATTACK = frozenset({"out-of-ball", "nan-gradient"})  # signs that the attack is wrong, not merely weak


def indicators_of(protocol: Protocol, batches: Sequence[BatchResult], *, draws: int) -> list[Indicator]:
    """Every indicator that the protocol and its records allow. None without an attack.

    Args:
        protocol: what was run.
        batches: all batches of the cell.
        draws: scoring draws of each sample.
    """
    attack = build(protocol)
    if attack is None:
        return []
    series = {
        name: torch.tensor(list(chain.from_iterable(b.telemetry[name] for b in batches)))
        for name in batches[0].telemetry
    }
    samples = list(chain.from_iterable(b.samples for b in batches))
    clean = [s.clean for s in samples]
    found = list(
        indicators.attack_indicators(
            series, series["success"].bool(), series["repaired"].bool(), eps=float(protocol.threat.eps)
        )
    )
    found.append(
        indicators.robust_above_clean(
            sum(clean) / len(clean) / draws, sum(s.attacked for s in samples) / len(clean) / draws
        )
    )
    if draws > 1:
        # A count strictly between none and all means that the prediction changed between draws.
        counts = torch.tensor(clean)
        unstable = torch.stack([torch.zeros_like(counts), ((counts > 0) & (counts < draws)).long()])
        found.append(indicators.unstable_prediction(unstable, eot=attack.averaged_draws))
    if "batch_gap" in series:
        found.append(indicators.batch_dependent(series["batch_gap"]))
    if {"gradient_norm", "undefended_gradient_norm"} <= series.keys():
        found.append(indicators.dead_gradient(series["gradient_norm"], series["undefended_gradient_norm"]))
    return found
