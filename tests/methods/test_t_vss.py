"""T-VSS against its equations: the subspace, the shared step, weights and vote, the switches, what attackers see."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.t_vss.method import TVSS
from vlm_gauntlet.methods.t_vss.subspace import leading, random_directions, residuals
from vlm_gauntlet.methods.views import draw_views, entropy, view_features

KEYS = tuple(range(6))
PLANE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


class Plane(Backbone):
    """Features in the plane, two classes on its axes."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def classify(self, features: Tensor, prompts: PromptSet) -> Tensor:
        return 5 * F.normalize(features, dim=-1)


def at(*degrees: float) -> Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features_of(backbone: Backbone, images: Tensor, count: int = 64) -> Tensor:
    return view_features(backbone, images, draw_views(images, Draws(KEYS, 1), count))


def answer(defence: TVSS, images: Tensor, prompts: PromptSet) -> Tensor:
    return defence(images, prompts, draws=Draws(KEYS, 1))


def gradient(defence: TVSS, images: Tensor, prompts: PromptSet, route: str = "straight-through") -> Tensor:
    inputs = images.clone().requires_grad_()
    logits = defence(inputs, prompts, draws=Draws(KEYS[: len(images)], 1), gradient=route)  # type: ignore[arg-type]
    return torch.autograd.grad(logits[:, 0].sum(), inputs)[0]


@pytest.mark.parametrize(
    ("anchor", "rows"),
    [
        ("image", [[-1.0, 1.0], [-0.4, 0.8]]),
        ("mean", [[0.4667, -0.6], [-0.5333, 0.4], [0.0667, 0.2]]),
        ("none", [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]),
    ],
)
def test_residuals_by_hand(anchor: str, rows: list[list[float]]) -> None:
    assert torch.allclose(residuals(PLANE, anchor), torch.tensor(rows), atol=1e-4)


@pytest.mark.parametrize(("share", "rank"), [(0.6, 1), (0.64, 1), (0.65, 2), (0.9, 2), (0.92, 2), (0.93, 3), (1.0, 3)])
def test_the_rank_is_the_least_that_holds_the_share(share: float, rank: int) -> None:
    """Singular values 3, 2, 1 along the axes: 9, 13 and 14 fourteenths of the energy."""
    rows = torch.tensor([[0.0, 2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    found = leading(torch.cat([rows, torch.zeros(2, 4)]), share)
    assert torch.equal(found.abs(), torch.eye(4)[[0, 1, 3]][:rank])


def test_rounding_spans_nothing() -> None:
    for share in (0.9, 1.0):
        for rows in (torch.zeros(5, 3), 1e-7 * normal(5, 3)):
            assert leading(rows, share).shape == (0, 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), d=st.integers(2, 12), share=st.floats(0.05, 0.99))
def test_the_subspace_is_orthonormal_and_no_larger_than_it_must_be(seed: int, n: int, d: int, share: float) -> None:
    rows = normal(n, d, seed=seed).double()
    found = leading(rows, share)
    assert torch.allclose(found @ found.T, torch.eye(len(found)).double(), atol=1e-6)
    held = (rows @ found.T).square().sum(0) / rows.square().sum()
    assert held.sum() >= share - 1e-9 and held[:-1].sum() < share + 1e-9
    assert torch.allclose(leading(3 * rows, share).abs(), found.abs(), atol=1e-6)
    drawn = random_directions(normal(len(found), d, seed=seed + 1))
    assert torch.allclose(drawn @ drawn.T, torch.eye(len(found)), atol=1e-5)


def test_full_rank_drops_what_rounding_made() -> None:
    """Three directions in 8 dimensions, 12 rows."""
    rows = normal(12, 3) @ normal(3, 8, seed=1)
    assert len(leading(rows, 1.0)) == 3


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("weights", "moved"), [((0.4, 0.6), -0.1), ((0.3, 0.7), 0.1)])
def test_one_shift_for_all_by_hand(sign: float, weights: tuple[float, float], moved: float, prompts: PromptSet) -> None:
    """Views at 30 and 60 degrees would go down and up; sideways they turn as cos 30 : cos 60, so 0.366 : 0.634 is even.

    AdamW's first step has the length lr along each direction, whichever sign the direction has.
    """
    views = at(30, 60)
    directions, log_weights = torch.tensor([[0.0, sign]]), torch.tensor(weights).log()
    for unroll in (False, True):
        found = TVSS(Plane()).steered(views, directions, log_weights, prompts, unroll=unroll)
        assert torch.allclose(found, views + torch.tensor([0.0, moved]), atol=1e-6)


def test_weights_by_hand() -> None:
    """At 0, 60 and 90 degrees with one neighbour: r = 1/2, cos 30, cos 30."""
    defence = TVSS(Plane(), neighbours=1, temperature=0.5)
    powers = [math.exp(r / 0.5) for r in (0.5, math.cos(math.pi / 6), math.cos(math.pi / 6))]
    expected = torch.tensor([p / sum(powers) for p in powers])
    assert torch.allclose(defence.log_weights(at(0, 60, 90)[None]).exp()[0], expected, atol=1e-4)
    uniform = TVSS(Plane(), {"weights": "uniform"}).log_weights(at(0, 60, 90)[None]).exp()
    assert torch.allclose(uniform, torch.full((1, 3), 1 / 3))


def written_out(backbone: Backbone, features: Tensor, prompts: PromptSet, *, share: float = 0.9) -> Tensor:
    """Equations 3 to 9 for one sample, with torch's own optimiser; log-probabilities [K]."""
    text, scale = backbone.text_features(prompts).double(), backbone.logit_scale.double()
    features = features.double()
    values, basis = torch.linalg.svd(features[1:] - features[:1])[1:]
    energy, rank = [float(v) ** 2 for v in values], 1
    while sum(energy[:rank]) < share * sum(energy):
        rank += 1
    cosines = features @ features.T
    nearest = [sorted((float(c) for j, c in enumerate(row) if j != i), reverse=True) for i, row in enumerate(cosines)]
    weights = torch.softmax(torch.tensor([sum(row[:5]) / 5 for row in nearest]).double() / 0.05, dim=0)
    alpha = torch.zeros(rank, dtype=torch.float64, requires_grad=True)

    def probabilities() -> Tensor:
        moved = features + alpha @ basis[:rank]
        return torch.softmax(scale * (moved / moved.norm(dim=1, keepdim=True)) @ text.T, dim=1)

    optimiser = torch.optim.AdamW([alpha], lr=0.1)
    p = probabilities()
    (weights @ -(p * p.log()).sum(1)).backward()
    optimiser.step()
    return (weights @ probabilities()).log().detach().float()


def test_the_answer_is_what_the_equations_say(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    features = features_of(tiny_backbone, images)
    expected = torch.stack([written_out(tiny_backbone, of_one, prompts) for of_one in features])
    assert torch.allclose(answer(TVSS(tiny_backbone), images, prompts), expected, atol=1e-3)
    still = answer(TVSS(tiny_backbone, lr=0.0), images, prompts)
    assert not torch.allclose(still, expected, atol=1e-2)


def test_a_short_step_lowers_the_weighted_entropy(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence, features = TVSS(tiny_backbone, lr=1e-3), features_of(tiny_backbone, images)
    weights = defence.log_weights(features)
    for of_one, rows, w in zip(features, defence.directions(features), weights, strict=True):
        moved = defence.steered(of_one, rows, w, prompts)
        before, after = (w.exp() @ entropy(tiny_backbone.classify(f, prompts)) for f in (of_one, moved))
        assert after < before
        shift = moved - of_one
        assert torch.allclose(shift, shift[:1].expand_as(shift), atol=1e-6)
        assert float(shift[0].norm()) == pytest.approx(1e-3 * math.sqrt(len(rows)), rel=1e-2)


def test_equal_views_are_not_steered(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """One colour: all crops are the image, nothing differs, and no gradient breaks."""
    plain = torch.full((2, 3, 16, 16), 0.5)
    defence = TVSS(tiny_backbone)
    assert [len(rows) for rows in defence.directions(torch.ones(2, 64, 16) / 4)] == [0, 0]
    expected = tiny_backbone(plain, prompts).log_softmax(-1)
    assert torch.allclose(defence(plain, prompts), expected, atol=1e-3)
    for route in ("straight-through", "unrolled"):
        assert torch.isfinite(gradient(defence, plain, prompts, route)).all()


def test_rank_and_basis_are_what_the_switches_say(tiny_backbone: Backbone, images: Tensor) -> None:
    features = features_of(tiny_backbone, images)
    kept, full, random = (TVSS(tiny_backbone, chosen) for chosen in ({}, {"rank": "full"}, {"basis": "random"}))
    random.draws = Draws(KEYS)
    found = [[len(rows) for rows in d.directions(features)] for d in (kept, full, random)]
    assert found[0] == found[2] and max(found[0]) < 16 and found[1] == [16] * 6
    for rows, drawn, of_one in zip(kept.directions(features), random.directions(features), features, strict=True):
        held = [((of_one[1:] - of_one[0]) @ d.T).square().sum() for d in (rows, drawn)]
        assert held[1] < held[0]


def test_a_control_arm_answers_otherwise(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    base = answer(TVSS(tiny_backbone), images, prompts)
    for switch in TVSS.card.deviations:
        for choice in switch.choices[1:]:
            other = answer(TVSS(tiny_backbone, {switch.name: choice}), images, prompts)
            assert torch.allclose(other.exp().sum(1), torch.ones(6), atol=1e-4)
            assert not torch.allclose(other, base, atol=1e-3), f"{switch.name}={choice}"


def test_with_the_step_as_a_constant_the_gradient_is_that_of_the_vote(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Through features and weights, built here from the plain parts."""
    defence, inputs = TVSS(tiny_backbone), images.clone().requires_grad_()
    rendered = draw_views(inputs, Draws(KEYS, 1)).render(inputs, 16)
    features = F.normalize(tiny_backbone.encode_image(rendered.flatten(0, 1)), dim=-1).view(6, 64, -1)
    weights = defence.log_weights(features)
    samples = zip(features.detach(), defence.directions(features), weights.detach(), strict=True)
    shifts = torch.stack([defence.steered(*sample, prompts) for sample in samples]) - features.detach()
    votes = tiny_backbone.classify(features + shifts, prompts).softmax(-1)
    (expected,) = torch.autograd.grad((weights.exp()[..., None] * votes).sum(1).log()[:, 0].sum(), inputs)
    assert torch.allclose(gradient(defence, images, prompts), expected, atol=1e-3 * float(expected.abs().max()))


def test_unrolling_adds_the_gradient_of_the_step(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    for lr, alike in ((0.1, False), (0.0, True)):
        defence = TVSS(tiny_backbone, lr=lr)
        through, unrolled = (gradient(defence, images, prompts, r) for r in ("straight-through", "unrolled"))
        assert torch.isfinite(unrolled).all()
        assert torch.allclose(through, unrolled, rtol=1e-3, atol=1e-5) == alike


def test_fewer_views_to_differentiate_change_the_gradient_alone(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    few, every = TVSS(tiny_backbone, attack_views=9), TVSS(tiny_backbone)
    assert not torch.allclose(gradient(few, images, prompts), gradient(every, images, prompts))
    inputs = images.clone().requires_grad_()
    assert torch.equal(answer(few, inputs, prompts), answer(every, inputs, prompts))


def test_relaxed_is_the_mean_of_nine_views(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    expected = tiny_backbone.classify(features_of(tiny_backbone, images, 9).mean(1), prompts)
    found = TVSS(tiny_backbone)(images, prompts, draws=Draws(KEYS, 1), gradient="relaxed")
    assert torch.allclose(found, expected, atol=1e-4)
