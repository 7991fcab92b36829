"""TGA-ZSR: attention maps and distances by hand, what each switch changes, and what training leaves alone."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.tecoa.train import TeCoATraining
from vlm_gauntlet.methods.tga_zsr.attention import SIDE, attention_map, attention_shift, encode_with_tokens
from vlm_gauntlet.methods.tga_zsr.losses import map_distance
from vlm_gauntlet.methods.tga_zsr.method import TGAZSR
from vlm_gauntlet.methods.tga_zsr.train import ALPHA, TGATraining, train
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.pins import read_pins
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
# The class token (2, 0), then patches (1, 0), (0, 1), (3, 4), (-1, 0); the text is (1, 0).
TOKENS = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [-1.0, 0.0]]])
TEXT = torch.tensor([[1.0, 0.0]])


def batch_of(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, tuple(range(6)))


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def training_of(backbone: Backbone, prompts: PromptSet, **deviations: str) -> TGATraining:
    training = TGATraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def test_a_map_by_hand() -> None:
    """Unit tokens: scores 1, 0, 0.6, -1; from 0 to 1: (s + 1) / 2. Unit channels: 1, 0, 3, -1 over sqrt(15), the class
    token's 2 among the squares; from 0 to 1: (s sqrt(15) + 1) / 4."""
    assert attention_map(TOKENS, TEXT, side=2)[0].tolist() == pytest.approx([1, 0.5, 0.8, 0])
    assert attention_map(TOKENS, TEXT, norm_axis="tokens", side=2)[0].tolist() == pytest.approx([0.5, 0.25, 1, 0])


def test_the_axis_decides_what_a_larger_token_changes() -> None:
    scaled = TOKENS * torch.tensor([1.0, 1.0, 1.0, 5.0, 1.0])[None, :, None]
    maps = [[attention_map(t, TEXT, norm_axis=a, side=2) for t in (TOKENS, scaled)] for a in ("embedding", "tokens")]
    assert torch.allclose(*maps[0]) and not torch.allclose(*maps[1], atol=1e-2)


def test_the_order_of_range_and_size() -> None:
    """A peak in the middle of 3 x 3, resized to 4 x 4: the nearest places are 0.625 of the way, so 0.625^2 is left."""
    tokens = torch.zeros(1, 10, 2)
    tokens[:, :, 1], tokens[:, 5] = 1.0, torch.tensor([1.0, 0.0])
    after, before = (attention_map(tokens, TEXT, minmax=m, side=4)[0] for m in ("after-resize", "before-resize"))
    assert (after.max().item(), after.min().item()) == (1, 0)
    assert before.max().item() == pytest.approx(0.625**2)
    assert torch.allclose(before / 0.625**2, after)


def test_a_flat_map_is_zero_and_not_nan() -> None:
    flat = torch.ones(1, 5, 2).requires_grad_()
    for order in ("after-resize", "before-resize"):
        found = attention_map(flat, TEXT, minmax=order)
        assert found.shape == (1, SIDE * SIDE) and not found.any()
        assert torch.isfinite(torch.autograd.grad(found.sum(), flat)[0]).all()


def test_the_gradient_of_a_map() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    texts = torch.nn.functional.normalize(torch.randn(2, 3, generator=generator, dtype=torch.float64), dim=-1)
    for axis in ("embedding", "tokens"):
        assert gradcheck(lambda t, axis=axis: attention_map(t, texts, norm_axis=axis, side=3), tokens)


def test_distances_by_hand() -> None:
    """Differences (3, 4) and (0, 0): norms 5 and 0, mean 2.5, not squared; elements 7/4. Angles of (3, 4) to (4, 3):
    24/25, and of equal maps 1."""
    one, other = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert map_distance(one, other).item() == 2.5
    assert map_distance(one, other, "l1").item() == 1.75
    turned = torch.tensor([[4.0, 3.0], [1.0, 1.0]])
    assert map_distance(one, turned, "cosine").item() == pytest.approx((1 - 24 / 25) / 2, abs=1e-6)
    maps = torch.rand(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    for kind in ("l2", "cosine", "l1"):
        assert gradcheck(lambda m, kind=kind: map_distance(m, torch.full((2, 3), 0.3).double(), kind), maps)


def test_equal_maps_pull_nowhere() -> None:
    """The norm has no derivative at 0; training starts there."""
    maps = torch.ones(2, 3, requires_grad=True)
    map_distance(maps, torch.ones(2, 3)).backward()
    assert maps.grad is not None and not maps.grad.any()


def test_tokens_and_features_come_of_one_pass(tiny_backbone: Backbone, images: Tensor) -> None:
    before = tiny_backbone.passes.forward
    features, tokens = encode_with_tokens(tiny_backbone, images)
    assert tiny_backbone.passes.forward - before == 6 and tokens.shape == (6, 5, 16)
    assert torch.allclose(tokens[:, 0], features, atol=1e-6)
    assert torch.equal(features, tiny_backbone.encode_image(images))
    assert not tiny_backbone.clip.visual.transformer._forward_hooks


def test_places_of_a_convolutional_tower_stand_for_tokens(images: Tensor) -> None:
    """Pooling and projection are linear: the features are the mean of the places. Otherwise there are none."""
    backbone = load_backbone("miniclip-cnn")
    features, tokens = encode_with_tokens(backbone, images[:2])
    assert tokens.shape == (2, 1 + 16, 384) and torch.equal(tokens[:, 0], features)
    assert torch.allclose(tokens[:, 1:].mean(1), features, atol=1e-5) and tokens[:, 1:].std(1).max() > 0.1
    pool = backbone.clip.visual.trunk.global_pool
    assert not pool._forward_pre_hooks
    other = copy.deepcopy(backbone)
    other.clip.visual.trunk.global_pool.pool_type = "max"
    with pytest.raises(UnavailableError, match="transformer image tower"):
        encode_with_tokens(other, images[:2])


def test_the_terms_are_the_papers(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Without an attack the tuned model looks where the original does: cross-entropy is all; then by the definition."""
    training = training_of(tiny_backbone, prompts)
    terms = training.loss(batch_of(images), phase("0"))
    plain = TeCoATraining(tiny_backbone, prompts, {}).loss(batch_of(images), phase("0"))["adversarial"]
    assert terms["adversarial"].item() == pytest.approx(plain.item(), abs=1e-5)
    assert terms["refinement"].item() == pytest.approx(0, abs=1e-3) == terms["constraint"].item()

    with torch.no_grad():
        training.weights["proj"].mul_(-0.5).add_(0.1)
    texts = tiny_backbone.text_features(prompts)[LABELS]
    maps = [attention_map(encode_with_tokens(b, images)[1], texts) for b in (training.student, tiny_backbone)]
    distance = (maps[0] - maps[1]).square().sum(1).sqrt().mean().item()
    for beta in ("0.05", "0.009"):
        training.deviations = {"beta": beta}
        terms = training.loss(batch_of(images), phase("0"))
        assert terms["refinement"].item() == pytest.approx(0.08 * distance, rel=1e-4) and ALPHA == 0.08
        assert terms["constraint"].item() == pytest.approx(float(beta) * distance, rel=1e-4)


def test_attacked_images_move_the_refinement_alone(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    terms = training_of(tiny_backbone, prompts).loss(batch_of(images), phase())
    assert terms["refinement"].item() > 0.1 and terms["constraint"].item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("switch", "changed"),
    [
        ({"norm_axis": "tokens"}, {"refinement", "constraint"}),
        ({"minmax": "before-resize"}, {"refinement", "constraint"}),
        ({"distance": "l1"}, {"refinement", "constraint"}),
        ({"distance": "cosine"}, {"refinement", "constraint"}),
        ({"beta": "0.009"}, {"constraint"}),
        ({"terms": "refinement"}, {"constraint"}),
        ({"terms": "cross-entropy"}, {"refinement", "constraint"}),
    ],
)
def test_each_switch_changes_its_terms(switch, changed, images: Tensor, prompts: PromptSet) -> None:
    backbone = load_backbone("miniclip-vit")  # of 4 x 4 patches: in 2 x 2 the order of range and size is the same
    found = []
    for deviations in ({}, switch):
        training = TGATraining(backbone, prompts, deviations)
        with torch.no_grad():
            training.weights["proj"].add_(0.05)
        found.append({n: t.item() for n, t in training.loss(batch_of(images), phase()).items()})
    assert {n for n in TGATraining.terms if found[0].get(n) != pytest.approx(found[1].get(n), abs=1e-5)} == changed


def test_only_the_image_tower_gets_gradients(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    training = training_of(tiny_backbone, prompts)
    terms = training.loss(batch_of(images), phase())
    assert all(p.grad is None for p in training.weights.values()), "the attack left some"
    sum(terms.values()).backward()
    assert all(p.grad is not None for n, p in training.weights.items())
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_the_shift_of_attention(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    texts = tiny_backbone.text_features(prompts)[LABELS]
    still = attention_shift(tiny_backbone, images, images, texts)
    assert still.l2.tolist() == [0] * 6 and still.cosine.abs().max() < 1e-6
    other = images.clone()
    other[2] = 1 - other[2]
    moved = attention_shift(tiny_backbone, images, other, texts)
    maps = [attention_map(encode_with_tokens(tiny_backbone, x)[1], texts)[2] for x in (images, other)]
    assert moved.l2[2].item() == pytest.approx((maps[0] - maps[1]).norm().item(), rel=1e-4)
    cosine = (maps[0] @ maps[1] / maps[0].norm() / maps[1].norm()).item()
    assert moved.cosine[2].item() == pytest.approx(1 - cosine, abs=1e-5)
    assert moved.l2[[0, 1, 3, 4, 5]].max() < 1e-3 < moved.l2[2] and not moved.l2.requires_grad


def test_a_recipe_makes_a_checkpoint_that_the_defence_opens(
    tiny_backbone: Backbone,
    images: Tensor,
    prompts: PromptSet,
    tmp_path: Path,
    monkeypatch,
    job_of: Callable[..., TrainingJob],
) -> None:
    recipe = tmp_path / "short.toml"
    recipe.write_text(
        'epochs = 3\nbatch_size = 8\noptimiser = { name = "sgd", learning_rate = 0.05, momentum = 0.9 }\n'
        'attack = { eps = "8/255", steps = 2, step_size = "8/255" }\n'
    )
    said: list[str] = []
    path = train(job_of("tga_zsr", tmp_path, wanted=str(recipe), report=said.append))
    (tmp_path / "checkpoints.toml").write_text(said[0])
    assert read_pins(tmp_path)["tiny"].trained_on == "noise" and path.with_suffix(".loss.csv").is_file()
    monkeypatch.setattr("vlm_gauntlet.methods.own_checkpoint.inspect.getfile", lambda kind: str(tmp_path / "method.py"))
    tuned = TGAZSR(tiny_backbone)
    assert not torch.allclose(tuned(images, prompts), tiny_backbone(images, prompts), atol=1e-2)
    assert math.isclose(tuned.tuned_backbone.logit_scale.item(), tiny_backbone.logit_scale.item())


def test_the_papers_recipe(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    (phase,) = job_of("tga_zsr", tmp_path).recipe.phases
    assert (phase.optimiser.learning_rate, phase.optimiser.momentum, phase.batch_size) == (1e-4, 0.9, 128)
    assert (float(phase.budget.eps), phase.budget.steps, phase.schedule.warmup) == (1 / 255, 2, 1000)
