"""A batch that does not fit into a GPU's memory is done in halves: nothing but memory may tell the difference.

Every sample draws from streams of its own and is attacked and scored alone, so that the halves give the batch's bits;
`tests/suites/test_halving.py` compares them, and each cell's `batch_gap` looks for it. A cell whose samples depend on
their batch is not halved: it would be another cell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError

from .journal import BatchResult
from .metered import total

NOTE = "out of memory: batches were done in halves"
OUT_OF_MEMORY = "out of memory"  # in the words of a process that told it


@dataclass(frozen=True)
class Done:
    """What a batch gave: attacked images [B, 3, H, W], if there are any, and the result."""

    images: Tensor | None
    result: BatchResult


def within_memory(batch: Batch, work: Callable[[Batch], Done], *, whole: bool) -> Done:
    """Does a batch, in halves where it does not fit.

    Args:
        batch: the samples.
        work: attacks and scores a batch.
        whole: whether it must not be divided: its samples depend on one another, or its code comes from outside.

    Raises:
        GauntletError: a single sample does not fit, or a batch that must stay whole does not.
    """
    try:
        return work(batch)
    except (torch.cuda.OutOfMemoryError, GauntletError) as error:
        if not _out_of_memory(error):
            raise
        if whole or len(batch.ids) == 1:
            raise _too_large(len(batch.ids), whole) from error
    torch.cuda.empty_cache()
    half = (len(batch.ids) + 1) // 2
    parts = [within_memory(_part(batch, place), work, whole=False) for place in (slice(half), slice(half, None))]
    return _joined(parts)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or OUT_OF_MEMORY in str(error).lower()


def _part(batch: Batch, place: slice) -> Batch:
    return Batch(batch.ids[place], batch.images[place], batch.labels[place])


def _joined(parts: list[Done]) -> Done:
    images, results = [p.images for p in parts if p.images is not None], [p.result for p in parts]
    names = sorted(set(chain.from_iterable(r.telemetry for r in results)))
    return Done(
        torch.cat(images) if images else None,
        BatchResult(
            samples=tuple(chain.from_iterable(r.samples for r in results)),
            telemetry={n: tuple(chain.from_iterable(r.telemetry.get(n, ()) for r in results)) for n in names},
            defence_cost=total([r.defence_cost for r in results]),
            attack_cost=total([r.attack_cost for r in results]),
            notes=tuple(dict.fromkeys([*chain.from_iterable(r.notes for r in results), NOTE])),
            files={name: digest for r in results for name, digest in r.files.items()},
        ),
    )  # fmt: skip


def _too_large(count: int, whole: bool) -> GauntletError:
    why = " that must stay together" if whole else ""
    return GauntletError(
        f"out of memory with {count} sample{'' if count == 1 else 's'}{why}", expected="a GPU with more memory",
        where="--batch-size, --device",
        fix="choose a smaller --batch-size, or a GPU with more memory" if count > 1 else "use a GPU with more memory",
    )  # fmt: skip
