"""Twelve faults that evaluations of this field have had, planted one by one: each is caught, and by its name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import AttackResult, Plain, Run
from vlm_gauntlet.attacks.indicators import attack_indicators
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.text import search
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import Attacked, attack_sentence
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method
from vlm_gauntlet.suites.conformance import Material, check_defence
from vlm_gauntlet.suites.text_rules import broken_rules

from ..leaderboard.factory import outcome

EPS = 0.1
IMAGES = 0.55 + 0.1 * torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BRIGHT = torch.zeros(8, dtype=torch.long)


def brightness(images: Tensor) -> Tensor:
    """Class 0 where the picture is brighter than grey."""
    score = 20 * (images.flatten(1).mean(1) - 0.5)
    return torch.stack([score, -score], dim=1)


def fired(result: AttackResult) -> set[str]:
    found = attack_indicators(result.telemetry, result.success, result.repaired, eps=EPS)
    return {indicator.name for indicator in found if indicator.fired}


class NoProjection(PGD):
    def perturb(self, run: Run) -> Tensor:
        return run.images - 3 * EPS


class NoClip(PGD):
    """Inside the ball, outside the box."""

    def perturb(self, run: Run) -> Tensor:
        return run.images + EPS


class FlippedSign(PGD):
    """Descends the loss."""

    def step(self, direction: Tensor) -> Tensor:
        return -super().step(direction)


def test_nothing_fires_on_an_honest_attack() -> None:
    result = PGD("linf", EPS, random_start=False)(Plain(brightness), IMAGES - 0.02, BRIGHT, tuple(range(8)))
    assert result.success.all() and fired(result) == set()


@pytest.mark.parametrize(
    ("attack", "images", "name"),
    [
        (NoProjection("linf", EPS), IMAGES, "out-of-ball"),
        (NoClip("linf", EPS), torch.ones_like(IMAGES), "out-of-ball"),
        (FlippedSign("linf", EPS, random_start=False), IMAGES, "loss-not-rising"),
    ],
)
def test_a_broken_attack_is_named(attack: PGD, images: Tensor, name: str) -> None:
    result = attack(Plain(brightness), images, BRIGHT, tuple(range(8)))
    assert name in fired(result)
    assert (result.images - images).abs().max() <= EPS + 1e-6 and result.images.max() <= 1


@pytest.mark.parametrize(
    ("model", "reduction"),
    [
        (lambda x: brightness(x.detach()), "sum"),
        # Sure of itself, in half precision, with the loss averaged over the batch: the gradient is below fp16's least.
        (lambda x: 40 * (x.half().flatten(1) @ torch.tensor([[1.0, -1.0]] * 48).half() / 48).float(), "mean"),
    ],
    ids=["dead gradient", "fp16 mean underflow"],
)
def test_a_gradient_that_tells_nothing_is_named(model: Callable[[Tensor], Tensor], reduction: str) -> None:
    images, labels = IMAGES.repeat(64, 1, 1, 1), BRIGHT.repeat(64)
    result = PGD("linf", EPS, reduction=reduction)(Plain(model), images, labels, tuple(range(512)))
    assert "zero-gradient" in fired(result) and not result.success.any()


def test_pictures_that_were_normalised_before_are_refused() -> None:
    with pytest.raises(GauntletError, match="do not normalise"):
        PGD("linf", EPS)(Plain(brightness), (IMAGES - 0.45) / 0.27 - 1, BRIGHT, tuple(range(8)))


def overshot(images: Tensor) -> Tensor:
    """Takes a picture far from grey for an attacked one, and answers the opposite of what it shows."""
    logits = brightness(images)
    return torch.where((logits[:, :1].abs() > 1), -logits, logits)


def test_a_leaked_label_is_named() -> None:
    """Right under attack even where it is wrong without: the untargeted attack pointed away from the truth."""
    grey = 0.5 + torch.linspace(-0.04, 0.04, 20)[:, None, None, None].expand(-1, 3, 4, 4)
    truth, keys = torch.zeros(20, dtype=torch.long), tuple(range(20))

    def right(labels: Tensor) -> str:
        attacked = PGD("linf", EPS, random_start=False)(Plain(brightness), grey, labels, keys).images
        return "".join(str(int(r)) for r in overshot(attacked).argmax(1) == truth)

    own = brightness(grey).argmax(1)
    clean = "".join(str(int(r)) for r in own == truth)
    names = ("pgd-10-transfer-linf-1-255", "pgd-10-pseudo-transfer-linf-1-255")
    made = [outcome(right(y), p, clean=clean, method="ttc") for y, p in zip((truth, own), names, strict=True)]
    (row,) = rows([*made, outcome(clean, "pgd-10-white-box-linf-1-255", clean=clean, method="ttc")])
    assert row.state == "masked" and "label-leak" in [flag.name for flag in row.masked_by]


class FreshEveryTime(Defence):
    """Draws from a generator of its own."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(torch.seed() % 2**31)).to(images)
        logits: Tensor = self.backbone((images + 0.3 * noise).clamp(0, 1), prompts)
        return logits


class Crowd(Defence):
    """Every answer is the batch's."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits: Tensor = self.backbone(images, prompts)
        return logits + 5 * logits.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("defence", "check"), [(FreshEveryTime, "check_same_draws_repeat"), (Crowd, "check_batch_independence")]
)
def test_a_defence_without_a_fixed_answer_is_named(
    defence: type[Defence], check: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    material = Material(images, tiny_backbone(images, prompts).argmax(1), prompts, "noise")
    report = check_defence(Method(defence.__name__, defence), tiny_backbone, material=material)
    assert check in report.named("fail"), report.markdown()


@dataclass
class Offers:
    """The same candidates for every word."""

    candidates: tuple[str, ...]
    digest: str = ""

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        return list(self.candidates)


class ByLength:
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        return torch.eye(4)[torch.tensor([len(sentence) % 4 for sentence in sentences])]

    def fits(self, sentence: str) -> bool:
        return True


def test_a_text_source_over_its_budget_is_named() -> None:
    with pytest.raises(ContractError, match="one word"):
        attack_sentence("a photo of a dog", ByLength(), Offers(("hot dog",)), WordSwap(source="characters"))


@pytest.mark.parametrize(
    ("forgotten", "candidate", "rule"), [("is_stop_word", "the", "stop word"), ("injected_names", "lion", "class name")]
)
def test_a_text_attack_that_forgets_a_rule_is_named(
    forgotten: str, candidate: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attack() -> Attacked:
        return attack_sentence("a photo of some cat", ByLength(), Offers((candidate,)), rules, class_names=names)

    rules, names = WordSwap(source="characters"), ("cat", "lion")
    assert attack().after == "a photo of some cat" and not broken_rules(attack(), rules, names)
    monkeypatch.setattr(search, forgotten, lambda *_: False)
    assert broken_rules(attack(), rules, names) == [rule]


@pytest.mark.parametrize(
    ("after", "lost", "broken"),
    [
        ("a photo of the c at", 0.0, []),
        ("a photq of the cbt", 0.0, ["budget"]),
        ("a photo of the hot cat", 0.0, ["budget"]),
        ("a photo of the cat .", 0.0, ["budget"]),
        ("a photo of the car here", 0.0, ["budget"]),
        ("a photo of the cat here and here", 0.0, ["budget"]),
        ("a photo of teh cat", 0.0, ["stop word"]),
        ("a the of the cat", 0.0, ["stop word"]),
        ("a tiger of the cat", 0.1, ["class name", "objective"]),
    ],
)
def test_a_sentence_is_judged_by_itself(after: str, lost: float, broken: list[str]) -> None:
    result = Attacked("a photo of the cat", after, (), lost, 0.0)
    assert broken_rules(result, WordSwap(source="characters"), ("tiger",)) == broken
    if not broken:
        assert broken_rules(result, WordSwap(source="characters", max_length=4), ()) == ["place"]
