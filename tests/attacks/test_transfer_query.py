"""Images from elsewhere and queries break what hides its gradient, and what shows its class alone."""

import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import Attacked, Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.transfer_query import TransferQuery

EPS, B = 0.1, 8
IMAGES = 0.55 + 0.02 * torch.rand(B, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS, KEYS = torch.zeros(B, dtype=torch.long), tuple(range(B))


def brightness(images: Tensor) -> Tensor:
    score = 20 * (images.flatten(1).mean(1) - 0.5)
    return torch.stack([score, -score], 1)


def hidden(images: Tensor) -> Tensor:
    return brightness(images).detach()


class Situation:
    """A context with these sources."""

    images, labels, keys, deterministic = IMAGES, LABELS, KEYS, True

    def __init__(self, victim: Plain, **sources: Plain) -> None:
        self._victim, self._sources = victim, sources

    def victim(self, *_: object, **__: object) -> Plain:
        return self._victim

    def sources(self) -> dict[str, Plain]:
        return self._sources


def attacked(attack: TransferQuery, victim: Plain, **sources: Plain) -> Attacked:
    return attack.attack_batch(Situation(victim, **sources))  # type: ignore[arg-type]


def test_a_hidden_gradient_does_not_hide_from_a_source() -> None:
    assert not PGD("linf", EPS, random_start=False)(Plain(hidden), IMAGES, LABELS, KEYS).success.any()
    result = attacked(TransferQuery("linf", EPS, queries=0), Plain(hidden), own=Plain(brightness)).result
    assert result is not None and result.success.all() and result.telemetry["transferred"].all()
    assert (result.images - IMAGES).abs().max() <= EPS + 1e-6


def test_the_best_source_counts_whatever_their_order() -> None:
    def useless(images: Tensor) -> Tensor:
        return -brightness(images)

    for order in (("a", "b"), ("b", "a")):
        sources = {name: Plain({"a": brightness, "b": useless}[name]) for name in order}
        small = attacked(TransferQuery("linf", 0.03, queries=0), Plain(hidden), **sources).result  # out of reach
        assert small is not None and not small.success.any()
        assert (small.images - IMAGES).flatten(1).mean(1).max() < 0, "kept is the darker picture, which goes further"


def test_queries_go_on_from_where_the_transfer_came() -> None:
    """Too few for squares from scratch; the transferred image stands just before the boundary."""
    near = 0.055
    result = attacked(TransferQuery("linf", near, queries=60, steps=3), Plain(hidden), own=Plain(brightness)).result
    alone = attacked(TransferQuery("linf", near, queries=60, steps=3), Plain(hidden)).result
    assert result is not None and alone is not None
    gone = [(r.images - IMAGES).flatten(1).mean(1) for r in (result, alone)]
    assert (gone[0] <= gone[1]).all() and gone[0].mean() < gone[1].mean()


def test_a_victim_that_tells_its_class_alone_is_searched_by_it() -> None:
    def class_alone(images: Tensor) -> Tensor:
        return 100.0 * torch.nn.functional.one_hot(hidden(images).argmax(1), 2).float()

    result = attacked(TransferQuery("linf", EPS, queries=60), Plain(class_alone)).result
    assert result is not None and result.telemetry["mute"].all() and result.success.all()
    told = attacked(TransferQuery("linf", 0.03, queries=60), Plain(hidden)).result
    assert told is not None and not told.telemetry["mute"].any()


def test_a_sample_that_is_broken_meets_no_further_source() -> None:
    met: list[int] = []

    def second(images: Tensor) -> Tensor:
        met.append(len(images))
        return brightness(images)

    attacked(TransferQuery("linf", EPS), Plain(hidden), first=Plain(brightness), second=Plain(second))
    assert met == []
