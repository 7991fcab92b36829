"""DBD: transforms by hand, the move by hand on three features, and the label leak end to end."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.dbd import transforms
from vlm_gauntlet.methods.dbd.method import DBD

KEYS = tuple(range(6))


def test_three_bits_are_eight_levels() -> None:
    picture = torch.tensor([0.0, 0.07, 0.08, 0.5, 1.0]).view(1, 1, 1, 5)
    assert transforms.bit_depth(picture, 3).flatten().tolist() == pytest.approx([0, 0, 1 / 7, 4 / 7, 1])


def test_filters_of_a_point_by_hand() -> None:
    """A single white pixel: none of the medians, 1/25 of each mean, the Gaussian's own weights."""
    point = torch.zeros(1, 3, 9, 9)
    point[..., 4, 4] = 1
    assert transforms.median(point).sum() == 0
    assert transforms.mean(point)[0, 0, 2:7, 2:7].flatten().tolist() == pytest.approx([1 / 25] * 25)
    line = [math.exp(-(d**2) / (2 * 1.1**2)) for d in (-2, -1, 0, 1, 2)]
    blurred = transforms.gaussian(point)[0, 1]
    assert blurred[4, 4].item() == pytest.approx((line[2] / sum(line)) ** 2, abs=1e-6)
    assert blurred[2, 5].item() == pytest.approx(line[0] * line[3] / sum(line) ** 2, abs=1e-6)


def test_jpeg_loses_more_at_lower_quality(images: Tensor) -> None:
    lost = [(transforms.jpeg(images, q) - images).abs().mean().item() for q in (100, 75, 50)]
    assert 0 < lost[0] < lost[1] < lost[2] < 0.5


@pytest.mark.parametrize("passed", [True, False])
def test_steps_pass_the_attackers_gradient_or_stop_it(passed: bool, images: Tensor) -> None:
    """Bits and three JPEGs are constants to autograd; an attacker takes them for the identity."""
    inputs = images[:1].clone().requires_grad_()
    pictures = transforms.deterministic(inputs, passed=passed)
    assert pictures.shape[1] == transforms.COUNT
    (gradient,) = torch.autograd.grad(pictures[:, :4].sum(), inputs)
    assert torch.allclose(gradient, torch.full_like(images[:1], 4.0 if passed else 0.0))


def test_score_and_strength_by_hand(tiny_backbone: Backbone) -> None:
    """Shifts (1, 0) and (0, 1) leave their mean by 45 degrees: cos 45 = 0.707 < 0.8. Equal shifts: 1 > 0.8."""
    shifts = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.1, 0.1], [0.3, 0.3]]])
    defence = DBD(tiny_backbone)
    assert defence.score(shifts).tolist() == pytest.approx([math.sqrt(0.5), 1.0])
    assert defence.strength(shifts).tolist() == [1.0, 2.5]
    assert DBD(tiny_backbone, {"strength": "one"}).strength(shifts).tolist() == [1.0, 1.0]


def test_a_score_at_the_threshold_does_not_overshoot(tiny_backbone: Backbone) -> None:
    """s > threshold, not >=."""
    shifts = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    score = DBD(tiny_backbone).score(shifts).item()
    assert DBD(tiny_backbone, threshold=score).strength(shifts).item() == 1.0
    assert DBD(tiny_backbone, threshold=score - 1e-3).strength(shifts).item() == 2.5


def placed(backbone: Backbone, features: Tensor, deviations: dict[str, str] | None = None) -> DBD:
    """Its 32 features are given."""
    defence = DBD(backbone, deviations)
    defence._features = lambda images, drawn, passed: features  # type: ignore[method-assign]
    return defence


def test_the_overshoot_reads_the_label_that_the_attack_put_in(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """f_0 was pushed from between two classes over the border; all views stand at the border again.

    lambda = 1 gives the views' own answer, a tie; lambda = 2.5 the class that the attack pushed away from.
    """
    text = tiny_backbone.text_features(prompts)
    truth, other = text[0], text[1]
    border, aside = F.normalize(truth + other, dim=0), F.normalize(other - truth, dim=0)
    features, ahead = torch.stack([border + 0.05 * aside, *[border] * 31])[None], {}
    for strength in ("one", "two-stream"):
        logits = placed(tiny_backbone, features, {"strength": strength})(torch.rand(1, 3, 16, 16), prompts)
        ahead[strength] = (logits[0, 0] - logits[0, 1]).item()
    # f = border + (0.05 - 2.5 * 0.05) aside: 0.075 |t - o| of the way into the truth.
    assert ahead["one"] == pytest.approx(0.0, abs=1e-3)
    scale = tiny_backbone.logit_scale.item() * 0.075 * (truth - other).norm().item() / math.hypot(1, 0.075)
    assert ahead["two-stream"] == pytest.approx(scale, rel=1e-3)


def test_the_surest_views_tell_the_direction(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """Only the 16 views of lowest entropy count, whatever the other 15 show."""
    text = tiny_backbone.text_features(prompts)
    sure, unsure = text[2], F.normalize(text.mean(0), dim=0)
    start = F.normalize(torch.ones_like(sure), dim=0)
    views = torch.stack([start, *[sure] * 16, *[unsure] * 15])[None]
    defence = placed(tiny_backbone, views)
    defence.draws = Draws((0,))
    _, shifts = defence.shifts(torch.rand(1, 3, 16, 16), prompts, passed=False)
    assert shifts.shape[1] == 16 and torch.allclose(shifts, (sure - start).expand(1, 16, -1), atol=1e-6)


def test_views_are_31_and_three_of_them_equal(tiny_backbone: Backbone, images: Tensor) -> None:
    """16 crops, 6 noisy, 3 of three bits, 3 JPEG, median, mean, Gaussian (sheet)."""
    defence, seen = DBD(tiny_backbone), []
    whole = defence._features
    defence._features = lambda *a, **k: (seen.append(whole(*a, **k)), seen[-1])[1]  # type: ignore[method-assign]
    defence.draws = Draws(KEYS)
    defence.shifts(images, PromptSet.from_templates(["cat", "dog"], ["a {c}"]), passed=False)
    (features,) = seen
    assert features.shape[1] == 32
    assert torch.equal(features[:, 23], features[:, 24]) and torch.equal(features[:, 24], features[:, 25])
    assert not torch.allclose(features[:, 25], features[:, 26], atol=1e-4)
    assert torch.allclose(features[:, 0], F.normalize(tiny_backbone.encode_image(images), dim=-1), atol=1e-5)


def test_the_gate_margin_is_the_score_above_its_threshold(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence, inputs = DBD(tiny_backbone), images.clone().requires_grad_()
    margin = defence.gate_margin_on(inputs, prompts, Draws(KEYS, 1))
    (gradient,) = torch.autograd.grad(margin.sum(), inputs)
    assert margin.shape == (6,) and gradient.flatten(1).norm(dim=1).min() > 0
    defence.draws = Draws(KEYS, 1)
    _, shifts = defence.shifts(images, prompts, passed=True)
    assert torch.allclose(margin, defence.score(shifts) - 0.8, atol=1e-5)
