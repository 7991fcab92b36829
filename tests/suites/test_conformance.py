"""Deliberately bad defences: the conformance checks must catch each by name. A good one from outside must pass."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.straight_through import straight_through
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence, external_card
from vlm_gauntlet.methods.card import Cost
from vlm_gauntlet.methods.registry import Method, method
from vlm_gauntlet.suites.conformance import CHECKS, Material, Report, check_defence, default_material
from vlm_gauntlet.suites.conformance.bench import Bench

N = 8


def warned(report: Report) -> list[str]:
    """What it warns of, but for this file's source, in which other tests write to their classes."""
    return [name for name in report.named("warn") if name != "check_source_looks_at_images_alone"]


class Honest(Defence):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(images, prompts)


class Detached(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts).detach()


class Quantised(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts).mul(4).round().div(4)


class Blind(Detached):
    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.forward(images, prompts)


class Misleading(Honest):
    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return straight_through(self.forward(images, prompts), -self.backbone(images, prompts))


class MaskedAndMisleading(Detached):
    """A cut graph, and a surrogate that leads the adaptive attacker away."""

    surrogate = Misleading.surrogate


class OtherModel(Honest):
    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return -self.backbone(images, prompts)


class RunningMean(Honest):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.mean.lerp_(images.detach().mean((0, 2, 3)), 0.1)
        return super().forward(images, prompts)


MEMORY = [torch.zeros(())]


class HiddenMemory(Honest):
    """Keeps its mean where no fingerprint of the module can see it."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        MEMORY[0] = 0.5 * MEMORY[0] + images.detach().mean()
        return super().forward(images, prompts) * (1 + MEMORY[0])


class BatchNormalised(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        features = F.normalize(self.backbone.encode_image(images), dim=-1)
        return self.backbone.classify(features - 0.5 * features.mean(0), prompts)


class PlaceMatters(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        place = torch.arange(len(images))[:, None] / len(images)
        return super().forward(images, prompts) * (1 + place)


class LikesTheFirstClass(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts) + F.one_hot(torch.tensor(0), len(prompts))


class ModeChanger(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.train()
        return super().forward(images, prompts)


class NotANumber(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts) * float("nan")


class MissingClass(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts)[:, :-1]


class EatsNumpy(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        np.random.random(3)
        return super().forward(images, prompts)


COUNT = itertools.count()


class FaintOwnStream(Honest):
    """Too faint for a tolerance on logits, and declared: only bit-equality sees it."""

    randomised = True

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = super().forward(images, prompts)
        return logits + 1e-4 * torch.rand(logits.shape, generator=torch.Generator().manual_seed(next(COUNT)))


class OwnStream(Honest):
    randomised = True

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(next(COUNT)))
        return super().forward((images + 0.2 * noise).clamp(0, 1), prompts)


class SecretlyRandom(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward((images + self.draws.uniform(images, 0, 0.1)).clamp(0, 1), prompts)


class OnlySaysRandom(Honest):
    randomised = True


class Mutator(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.backbone.clip.visual.proj.data.mul_(1.001)  # .data escapes the version counter
        return super().forward(images, prompts)


class WritesIntoInput(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        images.data.mul_(0.9)
        return super().forward(images, prompts)


class AcceptsAnything(Honest):
    def __call__(self, images: Tensor, prompts: PromptSet, **_: object) -> Tensor:  # type: ignore[override,misc]
        return self.forward(images.float().nan_to_num().clamp(0, 1), prompts)


class CheaperOnPaper(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return (super().forward(images, prompts) + super().forward(images.flip(-1), prompts)) / 2


CheaperOnPaper.card = external_card(CheaperOnPaper).model_copy(update={"cost": Cost(forward=1, backward=0)})


class CheaperToAttackOnPaper(Honest):
    """Forgets that BPDA runs the backbone beside the defence."""


CheaperToAttackOnPaper.card = external_card(CheaperToAttackOnPaper).model_copy(
    update={"attack_cost": Cost(forward=1, backward=1)}
)


class DoesNotBuild(Honest):
    def __init__(self, backbone: Backbone) -> None:
        raise ValueError("no such layer")


@pytest.fixture
def material(images: Tensor, prompts: PromptSet, tiny_backbone: Backbone) -> Material:
    pictures = torch.cat([images, images.flip(-1)])[:N]
    return Material(pictures, tiny_backbone(pictures, prompts).argmax(1), prompts, "noise")


def report_on(defence: type[Defence], backbone: Backbone, material: Material) -> Report:
    return check_defence(Method(defence.__name__, defence), backbone, material=material)


@pytest.mark.parametrize(
    ("defence", "check", "words"),
    [
        (Detached, "check_masked_gradient", "masked gradient: zero on 100%"),
        (Quantised, "check_masked_gradient", "masked gradient: zero on 100%"),
        (MaskedAndMisleading, "check_masked_gradient", "the backbone's gradient .BPDA. leaves"),
        (OtherModel, "check_surrogate_has_forward_values", "would break another model"),
        (Blind, "check_gradient_reaches_image", "no gradient reaches the image"),
        (Misleading, "check_adaptive_attack_is_strongest", "weaker than the plain gradient"),
        (RunningMean, "check_no_state_leak", "mean changed"),
        (HiddenMemory, "check_no_state_leak", "after other batches"),
        (BatchNormalised, "check_batch_independence", "in a batch the logits differ"),
        (PlaceMatters, "check_order_independence", "reversed order"),
        (LikesTheFirstClass, "check_class_permutation_equivariance", "classes in another order"),
        (ModeChanger, "check_mode_kept", "mode changed"),
        (NotANumber, "check_logits_shape_and_finite", "finite: False"),
        (MissingClass, "check_logits_shape_and_finite", r"output \(8, 4\)"),
        (EatsNumpy, "check_global_rng_kept", "generator of numpy"),
        (FaintOwnStream, "check_same_draws_repeat", "draw from self.draws"),
        (OwnStream, "check_same_draws_repeat", "draw from self.draws"),
        (SecretlyRandom, "check_randomised_as_declared", "declare `randomised"),
        (OnlySaysRandom, "check_randomised_as_declared", "fresh draws change nothing"),
        (Mutator, "check_parameters_survive_attack", "changed: backbone.clip.visual.proj"),
        (WritesIntoInput, "check_zero_budget_is_identity", "writes into its input"),
        (AcceptsAnything, "check_bad_images_are_refused", "no clear error for values above 1, values below 0, NaN"),
        (CheaperOnPaper, "check_cost_as_declared", "measured 2 forward"),
        (CheaperToAttackOnPaper, "check_attack_cost_as_declared", "measured 2 forward and 1 backward"),
        (DoesNotBuild, "check_clean_accuracy", "ValueError: no such layer"),
    ],
)
def test_bad_defences_are_caught_by_name(
    defence: type[Defence], check: str, words: str, tiny_backbone: Backbone, material: Material
) -> None:
    report = report_on(defence, tiny_backbone, material)
    assert not report.passed
    assert check in report.named("fail"), report.markdown()
    assert re.search(words, report.finding(check).sentence)


def test_a_bad_defence_spoils_neither_the_backbone_nor_the_next_report(
    tiny_backbone: Backbone, material: Material
) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_backbone.state_dict().items()}
    report_on(Mutator, tiny_backbone, material)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_backbone.state_dict().items())
    after = report_on(Honest, tiny_backbone, material)
    assert after.passed, after.markdown()


def test_a_broken_contract_is_reported_once(tiny_backbone: Backbone, material: Material) -> None:
    report = report_on(ModeChanger, tiny_backbone, material)
    assert report.named("fail") == ["check_mode_kept"]
    assert "see check_mode_kept" in report.finding("check_masked_gradient").sentence


def test_a_declared_surrogate_turns_the_failure_into_a_warning(tiny_backbone: Backbone, material: Material) -> None:
    class Declared(Detached):
        def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
            return self.backbone(images, prompts)

    report = report_on(Declared, tiny_backbone, material)
    assert report.passed and warned(report) == ["check_masked_gradient"]


def test_a_gradient_that_is_alive_but_useless_is_named(tiny_backbone: Backbone, material: Material) -> None:
    class Shattered(Detached):
        """Flat to the eye of the logits, with a gradient of honest size in a direction that leads nowhere."""

        def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
            return straight_through(super().forward(images, prompts), -self.backbone(images, prompts))

    report = report_on(Shattered, tiny_backbone, material)
    assert warned(report) == ["check_masked_gradient"]
    assert "masked gradient: alive, yet" in report.finding("check_masked_gradient").sentence


EXTERNAL = '''
"""Classifies a picture and its mirror image."""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence


class Mirror(Defence):
    """Mean of the logits of both views."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        both = torch.cat([images, images.flip(-1)])
        first, second = self.backbone(both, prompts).chunk(2)
        return (first + second) / 2

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.forward(images, prompts)
'''


def test_a_good_external_defence_passes(tmp_path: Path, tiny_backbone: Backbone, material: Material) -> None:
    path = tmp_path / "mirror.py"
    path.write_text(EXTERNAL)
    name = f"{path}:Mirror"
    report = check_defence(method(name), tiny_backbone, material=material)
    assert report.passed and not warned(report), report.markdown()
    assert "measured 2 forward and 0 backward" in report.finding("check_cost_as_declared").sentence


def test_the_report_can_be_pasted(tiny_backbone: Backbone, material: Material) -> None:
    seen: list[tuple[str, int, int]] = []
    report = check_defence(
        Method("honest", Honest), tiny_backbone, material=material, progress=lambda *step: seen.append(step)
    )
    lines = report.markdown().splitlines()
    assert lines[0] == "### Conformance of `honest` on `tiny`" and lines[2].startswith("**conforms**")
    assert f"torch {torch.__version__.partition('+')[0]}" in lines[2]
    rows = [line for line in lines if line.startswith("| check_")]
    assert len(rows) == len(report.findings) == len(CHECKS) == len(seen)


def test_without_the_embedded_set_noise_is_labelled_by_the_backbone(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm_gauntlet.suites.conformance.bench.datasets", dict)
    material = default_material(tiny_backbone, 4)
    assert material.images.shape == (4, 3, 16, 16)
    assert torch.equal(material.labels, tiny_backbone(material.images, material.prompts).argmax(1))


@pytest.mark.parametrize("route", ["surrogate", "unrolled"])
def test_a_gradient_left_in_a_parameter_is_found_on_every_route(
    route: str, tiny_backbone: Backbone, material: Material
) -> None:
    def leaks(self: Defence, images: Tensor, prompts: PromptSet) -> Tensor:
        self.backbone.mean.grad = torch.zeros_like(self.backbone.mean)
        return self.forward(images, prompts)

    kept = external_card(Honest).model_copy(update={"keeps_state": True})  # so that only this check can see it
    report = report_on(type("Leaks", (Honest,), {route: leaks, "card": kept}), tiny_backbone, material)
    assert "with a gradient: backbone.mean" in report.finding("check_parameters_survive_attack").sentence


def test_the_budget_is_searched_once_for_the_same_pictures(tiny_backbone: Backbone, material: Material) -> None:
    first, second = (Bench(Method("Honest", Honest), tiny_backbone, material) for _ in "ab")
    eps, before = first.eps, tiny_backbone.passes.forward
    assert second.eps == eps and tiny_backbone.passes.forward == before
    turned = replace(material, images=material.images.flip(-1))
    assert Bench(Method("Honest", Honest), tiny_backbone, turned).eps and tiny_backbone.passes.forward > before


def test_an_attack_that_ends_early_breaks_the_same(tiny_backbone: Backbone, material: Material) -> None:
    bench = Bench(Method("Honest", Honest), tiny_backbone, material)
    for eps in (1 / 255, 16 / 255):
        whole = PGD("linf", eps, selection="any-iterate")
        slow = whole(bench.victim(bench.defence()), bench.images, material.labels, bench.keys)
        assert torch.equal(bench.attack(bench.defence(), eps=eps).success, slow.success)
