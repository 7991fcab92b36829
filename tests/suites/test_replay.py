"""What an attack was answered is asked again elsewhere: state, labels and callers show; honest answers repeat."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.indicators import unstable_keys, unstable_replay
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence, Call, Recorder
from vlm_gauntlet.suites.replay import gap, regrouped, replayed, secret_keys
from vlm_gauntlet.suites.scoring import Answers, InProcess, Rearranged

KEYS = tuple(range(6))


def recorded(defence: Defence, images: Tensor, prompts: PromptSet, calls: int = 5) -> Recorder:
    recorder = Recorder()
    victim = BoundDefence(defence, prompts, KEYS[: len(images)], recorder=recorder)
    asked = images.clone()
    for _ in range(calls):
        victim(asked)
        asked.mul_(0.99)  # as attacks do that write in place
    return recorder


@pytest.mark.parametrize("name", ["undefended", "rn", "aom", "ttc"])
def test_honest_answers_repeat(name: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = method(name).build(tiny_backbone)
    found = replayed(InProcess(defence), recorded(defence, images, prompts), randomised=defence.card.randomised)
    assert len(found["replay_gap"]) in (2 * len(images), 3 * len(images))
    assert not unstable_replay(found["replay_gap"]).fired


class Elsewhere(Defence):
    """Answers otherwise once told that it is elsewhere."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits: Tensor = self.backbone(images, prompts)
        return logits + (0.2 * (logits.amax(1) - logits.amin(1)))[:, None] * HERE[0] * torch.eye(len(prompts))[0]


HERE = [0.0]


def test_who_answers_otherwise_elsewhere_is_seen(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = Elsewhere(tiny_backbone)
    recorder = recorded(defence, images, prompts)
    HERE[0] = 1.0
    try:
        found = replayed(InProcess(defence), recorder, randomised=False)["replay_gap"]
    finally:
        HERE[0] = 0.0
    assert unstable_replay(found).value == 1.0


def test_the_last_call_is_always_kept_and_the_others_by_chance() -> None:
    seen = set()
    for _ in range(60):
        recorder = Recorder(chosen=2)
        calls = [Call(torch.full((1,), float(i)), PromptSet(("a", "b"), (("a",), ("b",))), Draws((0,)), torch.zeros(1))
                 for i in range(8)]  # fmt: skip
        for call in calls:
            recorder.see(call)
        kept = [int(call.images) for call in recorder.calls]
        assert 7 in kept and len(kept) == len(set(kept)) and 2 <= len(kept) <= 3
        seen |= set(kept)
    assert seen == set(range(8))


class Spy:
    """Remembers the sizes of what it was asked."""

    def __init__(self, defence: Defence) -> None:
        self.inner, self.sizes = InProcess(defence), list[int]()

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Answers:
        self.sizes.append(len(images))
        return self.inner.score(images, prompts, keys, calls)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [4]), (6, [4, 2])])
def test_another_order_gives_the_same_answers_in_their_places(
    count: int, sizes: list[int], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence = method("rn").build(tiny_backbone)
    spy = Spy(defence)
    plain = InProcess(defence).score(images[:count], prompts, KEYS[:count], range(2))
    other = Rearranged(spy).score(images[:count], prompts, KEYS[:count], range(2))
    assert spy.sizes == sizes
    assert float(gap(other.logits, plain.logits).max()) < 1e-3
    assert torch.equal(other.classes, plain.classes) and other.cost.forward == plain.cost.forward


class CrowdShy(Defence):
    """Another model in batches larger than some; one answer of each batch is unsteady."""

    most, unsteady = 5, False

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits: Tensor = self.backbone(images, prompts)
        if len(images) > self.most:
            return logits.roll(1, 1)
        return torch.cat([logits[:1].roll(1, 1), logits[1:]]) if self.unsteady and len(images) < 3 else logits


def test_who_answers_otherwise_in_other_company_is_seen(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    shy = CrowdShy(tiny_backbone)
    assert regrouped(InProcess(shy), recorded(shy, images, prompts), randomised=False).item() > 0.05
    for name in ("undefended", "rn", "ttc"):
        honest = method(name).build(tiny_backbone)
        record = recorded(honest, images, prompts)
        assert regrouped(InProcess(honest), record, randomised=honest.card.randomised).item() < 0.05
    assert not len(regrouped(InProcess(shy), recorded(shy, images[:3], prompts), randomised=False))


def test_one_answer_may_flip_in_other_company(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    unsteady = CrowdShy(tiny_backbone)
    unsteady.most, unsteady.unsteady = 99, True
    record = recorded(unsteady, images[:4], prompts)  # two and two: each part has an unsteady answer
    assert regrouped(InProcess(unsteady), record, randomised=False).item() > 0.05
    record = recorded(unsteady, images[:5], prompts)  # two and three
    assert regrouped(InProcess(unsteady), record, randomised=False).item() < 0.05


def test_keys_that_tell_are_seen_and_noise_is_not() -> None:
    right, wrong = torch.ones(40), torch.zeros(40)
    assert unstable_keys(right, wrong).fired and not unstable_keys(right, right).fired
    assert not unstable_keys(wrong, right).fired, "more right answers on secret streams give nothing away"
    generator = torch.Generator().manual_seed(0)
    draws = (torch.rand(2, 500, 40, generator=generator) < 0.7).float()
    assert sum(unstable_keys(a, b).fired for a, b in zip(*draws, strict=True)) <= 1


def test_secret_keys_differ_each_time() -> None:
    assert len({*secret_keys(50), *secret_keys(50)}) == 100
