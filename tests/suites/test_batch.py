"""One batch of a cell: fresh draws for each scoring, and the largest shift that a neighbour causes."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.base import GRADIENTS, Defence
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import CONFIRMING, BatchContext, Evaluation, confirming_draws, run_batch
from vlm_gauntlet.suites.indicators import indicators_of
from vlm_gauntlet.suites.journal import BatchResult

ATTACK = protocol("fgsm-white-box-linf-16-255")
DRAWS = ATTACK.evaluation.scoring_draws


class Dice(Defence):
    """Answers what its draw says, whatever the image."""

    randomised = True

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        thrown = self.draws.uniform(images[:, 0, 0, 0], 0, len(prompts)).long()
        return torch.nn.functional.one_hot(thrown, len(prompts)).float() + 0 * images.flatten(1).sum(1, keepdim=True)


class Whisper(Defence):
    """Logits 0, 1, 0, ...; a neighbour moves one class in five by 0.1 of their range."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = torch.zeros(len(images), len(prompts)) + 0 * images.flatten(1).sum(1, keepdim=True)
        logits[:, 1] += 1.0
        logits[:, 2] += 0.1 * (len(images) > 1)
        return logits


def run(kind: type[Defence], backbone: Backbone, prompts: PromptSet, images: Tensor, how: Protocol) -> BatchResult:
    batch = Batch(tuple(f"s{i}" for i in range(len(images))), images, torch.zeros(len(images), dtype=torch.long))
    return run_batch(Evaluation(kind(backbone), method("undefended").build(backbone), prompts, how, 0), batch)


def test_a_randomised_defence_is_scored_on_different_draws(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """200 dice thrown five times: if all throws were one, each sample would be right in none or in all of them."""
    images = torch.full((200, 3, 16, 16), 0.5)
    result = run(Dice, tiny_backbone, prompts, images, ATTACK)
    for found in ([s.clean for s in result.samples], [s.attacked for s in result.samples]):
        assert max(found) < DRAWS and sum(0 < count < DRAWS for count in found) > 100
        # Five throws of a five-sided die: 1.0 right on average, with variance 0.8.
        assert sum(found) / 200 == pytest.approx(1.0, abs=0.3)
    assert "unstable-prediction" in {i.name for i in indicators_of(ATTACK, [result], draws=DRAWS) if i.fired}


class Sure(Dice):
    """Always right, and remembers on whose streams it was asked."""

    asked: ClassVar[list[tuple[int, ...]]] = []

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.asked.append(self.draws.keys)
        logits = torch.zeros(len(images), len(prompts))
        logits[:, 0] = 1.0
        return logits + 0 * images.flatten(1).sum(1, keepdim=True)


def test_every_draw_counts_and_none_is_one_that_the_attack_saw(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    Sure.asked.clear()
    result = run(Sure, tiny_backbone, prompts, torch.full((3, 3, 16, 16), 0.5), ATTACK)
    assert {(s.clean, s.attacked) for s in result.samples} == {(DRAWS,) * 2}
    attack = Sure.asked[0]
    scoring = {key_of(0, "score", f"s{i}") for i in range(3)}
    asked = [key for keys in Sure.asked for key in keys if key in scoring]
    alone = 1  # the first sample is asked about once more, alone
    assert len(asked) == 3 * 2 * DRAWS + alone, "attacked and clean"
    assert not set(attack) & scoring and len(scoring) == 3
    assert "unstable-prediction" not in {i.name for i in indicators_of(ATTACK, [result], draws=DRAWS) if i.fired}


def test_each_sample_has_draws_of_its_own(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    result = run(Dice, tiny_backbone, prompts, torch.full((200, 3, 16, 16), 0.5), ATTACK)
    assert len({s.clean for s in result.samples}) > 2


class Bright(Defence):
    """Right on a picture brighter than grey."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        score = images.flatten(1).mean(1) - 0.5
        return torch.stack([score, -score, *[torch.full_like(score, -1.0)] * (len(prompts) - 2)], 1)


def test_clean_and_attacked_images_are_scored_each_as_what_they_are(
    tiny_backbone: Backbone, prompts: PromptSet
) -> None:
    """At 16/255 the attack reaches the first picture, the second is out of reach, the third was wrong before."""
    images = torch.tensor([0.52, 0.7, 0.4])[:, None, None, None].expand(3, 3, 16, 16)
    result = run(Bright, tiny_backbone, prompts, images, ATTACK)
    assert [(s.clean, s.attacked, s.robust) for s in result.samples] == [(1, 0, 0), (1, 1, 1), (0, 0, 0)]
    assert result.telemetry["success"] == (1, 0, 1)


def test_the_batch_gap_is_the_shift_of_the_logit_that_moves_most(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """A mean over the five classes would hide it: 0.02 is below the indicator's 0.05."""
    images = torch.full((4, 3, 16, 16), 0.5)
    result = run(Whisper, tiny_backbone, prompts, images, ATTACK)
    assert max(result.telemetry["batch_gap"]) == pytest.approx(0.1, abs=1e-6)
    assert "batch-dependent" in {i.name for i in indicators_of(ATTACK, [result], draws=1) if i.fired}


class FirstDraws(Dice):
    """Right in the draws that score, wrong in all later ones."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = torch.zeros(len(images), len(prompts)) + 0 * images.flatten(1).sum(1, keepdim=True)
        logits[:, 0 if self.draws.call < DRAWS else 1] += 1.0
        return logits


def test_fresh_draws_are_none_that_score(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    strong = protocol("pgd-20-adaptive-linf-16-255")
    result = run(FirstDraws, tiny_backbone, prompts, torch.full((3, 3, 16, 16), 0.5), strong)
    assert {(s.attacked, s.fresh) for s in result.samples} == {(DRAWS, 0)}
    weak = run(FirstDraws, tiny_backbone, prompts, torch.full((3, 3, 16, 16), 0.5), ATTACK)
    assert {s.fresh for s in weak.samples} == {None}, "one step proves nothing, and costs no further draws"
    black = protocol("square-100-black-box-linf-16-255")
    assert [confirming_draws(how, randomised=True) for how in (strong, black, ATTACK)] == [CONFIRMING] * 2 + [0]
    assert confirming_draws(strong, randomised=False) == 0


class SureOfItself(Sure):
    """Draws nothing."""

    randomised = False


def test_what_draws_nothing_is_scored_under_keys_that_nobody_can_foretell(
    tiny_backbone: Backbone, prompts: PromptSet
) -> None:
    Sure.asked.clear()
    result = run(SureOfItself, tiny_backbone, prompts, torch.full((3, 3, 16, 16), 0.5), ATTACK)
    foretold = {key_of(0, word, f"s{i}") for word in ("attack", "score") for i in range(3)}
    asked = [set(keys) for keys in Sure.asked]
    assert [s.fresh for s in result.samples] == [None] * 3
    assert sum(not keys & foretold for keys in asked) >= 3, "attacked, clean and replayed"
    first, *others = [keys for keys in asked if len(keys) == 3 and not keys & foretold]
    assert any(keys != first for keys in others), "a replay has others again"


def test_only_what_has_the_values_of_the_defence_is_asked_again(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """A relaxed form answers otherwise by its nature: an honest defence must not look unstable for it."""
    defence, undefended = Bright(tiny_backbone), method("undefended").build(tiny_backbone)
    for how, kept in ((ATTACK, True), (protocol("pgd-10-transfer-linf-16-255"), False)):
        context = BatchContext(Evaluation(defence, undefended, prompts, how, 0), torch.zeros(1), torch.zeros(1), (0,))
        recorded = {name for name in GRADIENTS if context.victim(name).recorder is not None}
        assert recorded == ({"direct", "straight-through", "backbone"} if kept else set())
