"""CLIPure-Diff: its purification, and what the released code makes of it (sheet 4.4 and 4.5)."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient
from vlm_gauntlet.methods.base import GRADIENTS
from vlm_gauntlet.methods.clipure_diff.method import CLIPureDiff
from vlm_gauntlet.methods.clipure_diff.null_text import NullText
from vlm_gauntlet.methods.clipure_diff.prior import Condition, Prior
from vlm_gauntlet.methods.clipure_diff.residual import ResidualPrior
from vlm_gauntlet.methods.clipure_diff.train import Embeddings, null_loss
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence
from vlm_gauntlet.suites.conformance.attacked import check_masked_gradient
from vlm_gauntlet.suites.conformance.bench import Bench, default_material

KEYS = tuple(range(6))
RELEASED = {"step": "as_coded", "norm": "batch", "timesteps": "shared", "null": "dropped", "encoder": "no_grad"}


def make(backbone: Backbone, prior: Prior, deviations: dict[str, str] | None = None, **kwargs: object) -> CLIPureDiff:
    return CLIPureDiff(backbone, deviations, prior=prior, **kwargs)


def logits(
    defence: CLIPureDiff, images: Tensor, prompts: PromptSet, call: int = 1, gradient: Gradient = "direct"
) -> Tensor:
    return defence(images, prompts, draws=Draws(KEYS[: len(images)], call), gradient=gradient)


def purified(defence: CLIPureDiff, features: Tensor, keys: tuple[int, ...] = KEYS) -> Tensor:
    defence.draws = Draws(keys, 1)
    return defence.purify(features)


@pytest.mark.parametrize("deviations", [{}, RELEASED])
def test_the_purified_feature_is_of_unit_length(
    deviations: dict[str, str], tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    out = purified(make(tiny_backbone, prior, deviations), clusters.image[:6])
    assert torch.allclose(out.norm(dim=-1), torch.ones(6), atol=1e-6)


def test_purification_lowers_the_priors_loss(
    tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    noise = torch.randn(64, 16, generator=torch.Generator().manual_seed(4))
    spoilt = F.normalize(clusters.image[:64] + 0.3 * noise, dim=-1)
    out = purified(make(tiny_backbone, prior), spoilt, tuple(range(64)))
    losses = [null_loss(prior, z, first=900, last=999, rounds=20) for z in (spoilt, out)]
    assert losses[1] < losses[0]


def test_one_step_is_the_gradient_of_the_loss(
    tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    """u - step g/|g|, back on the sphere, with the timestep and the noise of the sample's own stream."""
    features = clusters.image[:6]
    draws = Draws(KEYS, 1)
    timesteps = draws.uniform(features[:, 0], 900, 1000).long()
    noise = draws.normal(features)
    assert ((timesteps >= 900) & (timesteps <= 999)).all() and len(set(timesteps.tolist())) > 1
    leaf = features.clone().requires_grad_()
    (g,) = torch.autograd.grad(prior.loss(leaf, timesteps, noise, Condition.null(leaf)).sum(), leaf)
    for norm, unit in (("per-sample", F.normalize(g, dim=-1)), ("batch", g / g.norm())):
        out = purified(make(tiny_backbone, prior, {"norm": norm}, iterations=1, step=0.2), features)
        assert torch.allclose(out, F.normalize(features - 0.2 * unit, dim=-1), atol=1e-6)


def test_the_released_step_forgets_where_it_stood(
    tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    """Step 30 is a turn of up to arctan 30 = 88 degrees; the paper's intent moves by at most arctan 0.1 = 5.7."""
    for step, low, high in (("paper-intent", 0.0, 5.8), ("as_coded", 45.0, 180.0)):
        out = purified(make(tiny_backbone, prior, {"step": step}, iterations=1), clusters.image[:6])
        angle = torch.rad2deg(torch.acos((out * clusters.image[:6]).sum(-1)))
        assert low < angle.min() and angle.max() < high


@pytest.mark.parametrize(
    ("switch", "coupled"), [({}, False), ({"norm": "batch"}, True), ({"timesteps": "shared"}, True)]
)
def test_only_the_batch_norm_and_the_shared_timestep_couple_samples(
    switch: dict[str, str], coupled: bool, tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    defence, features = make(tiny_backbone, prior, switch), clusters.image[:6]
    whole = purified(defence, features)
    alone = torch.cat([purified(defence, f[None], (k,)) for f, k in zip(features, KEYS, strict=True)])
    assert torch.allclose(whole, alone, atol=1e-4) != coupled
    assert defence.batch_coupled == coupled
    assert torch.allclose(purified(defence, features.flip(0), KEYS[::-1]).flip(0), whole, atol=1e-4)


def test_shared_means_one_timestep(tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings) -> None:
    seen: list[Tensor] = []

    class Watched(ResidualPrior):
        def forward(self, noised: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
            seen.append(timesteps)
            return super().forward(noised, timesteps, condition)

    watched = Watched(16)
    for switch in ("per-sample", "shared"):
        seen.clear()
        purified(make(tiny_backbone, watched, {"timesteps": switch}), clusters.image[:6])
        assert len(seen) == 10 and len({t.tolist()[0] for t in seen}) > 1, "fresh at each step"
        assert all((len(set(t.tolist())) == 1) == (switch == "shared") for t in seen)


def test_null_is_independent_of_any_text_and_dropped_is_not(
    tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    outs = {}
    for null in ("null", "dropped"):
        for name, text in (("first", clusters.text[0]), ("second", clusters.text[1])):
            defence = make(tiny_backbone, prior, {"null": null})
            defence.null_text = lambda text=text: NullText(text, text[None])  # type: ignore[method-assign]
            outs[null, name] = purified(defence, clusters.image[:6])
    assert torch.equal(outs["null", "first"], outs["null", "second"])
    assert not torch.allclose(outs["dropped", "first"], outs["dropped", "second"], atol=1e-4)


def test_dropped_loses_a_tenth_of_texts_and_images(
    tiny_backbone: Backbone, prior: ResidualPrior, clusters: Embeddings
) -> None:
    defence = make(tiny_backbone, prior, {"null": "dropped"})
    defence.draws = Draws(tuple(range(2000)), 1)
    condition = defence._condition(clusters.image[:1].expand(2000, -1))
    for keep in (condition.keep_text, condition.keep_image):
        assert (~keep).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert not torch.equal(condition.keep_text, condition.keep_image)
    assert torch.equal(condition.text[0], defence.null_text().embedding)
    assert condition.words is defence.null_text().words


def test_the_null_text_is_what_the_code_averages(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two templates, of 3 and 5 tokens: means of unit embeddings, and of raw ones at each template's own tokens."""
    pooled = torch.zeros(2, 16)
    pooled[0, 0], pooled[1, 1] = 2.0, 6.0
    tokens = torch.tensor([[7, 5, 9, 0, 0, 0], [7, 5, 5, 5, 9, 0]])
    backbone = tiny_backbone.tuned({})
    monkeypatch.setattr(open_clip, "OPENAI_IMAGENET_TEMPLATES", (lambda c: f"a {c}", lambda c: f"a photo of a {c}"))
    backbone.encode_text = lambda sentences: pooled if sentences == ["a ", "a photo of a "] else pooled[:0]  # type: ignore[method-assign]
    backbone.tokenize = lambda sentences: tokens
    told = make(backbone, ResidualPrior(16), {"null": "dropped"}).null_text()
    assert told.embedding[:3].tolist() == [0.5, 0.5, 0.0] and told.embedding.norm() < 1
    assert told.words[:, :2].tolist() == [[1.0, 3.0]] * 3 + [[0.0, 3.0]] * 2 + [[0.0, 0.0]]
    assert told.words[:, 2:].abs().max() == 0


def test_routes_have_one_value_and_gradients_of_their_own(
    tiny_backbone: Backbone, prior: ResidualPrior, images: Tensor, prompts: PromptSet
) -> None:
    for deviations in ({}, {"null": "dropped"}, RELEASED):
        defence, gradients = make(tiny_backbone, prior, deviations), {}
        for route in GRADIENTS:
            value = logits(defence, images, prompts, gradient=route)
            assert torch.allclose(value, logits(defence, images, prompts), atol=1e-4), route
            victim = BoundDefence(defence, prompts, KEYS, route)
            gradients[route], _, _ = input_gradient(victim, images, torch.zeros(6, dtype=torch.long), cross_entropy)
        released = deviations == RELEASED
        assert bool((gradients["direct"] == 0).all()) == released
        for other in ("straight-through", "unrolled", "backbone"):
            assert gradients[other].flatten(1).norm(dim=1).min() > 0, other
        assert not torch.allclose(gradients["unrolled"], gradients["straight-through"])
        assert all(p.grad is None for p in defence.parameters())


def test_unrolled_is_the_derivative_of_the_purification(tiny_backbone: Backbone, clusters: Embeddings) -> None:
    """Against central differences in double precision."""
    torch.manual_seed(1)
    defence = make(tiny_backbone, ResidualPrior(16, width=8, blocks=1).double(), iterations=3, step=0.5)
    features = clusters.image[:1].double().requires_grad_()
    direction, weight = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def value(z: Tensor) -> Tensor:
        defence.draws = Draws((0,), 1)
        return (defence.purify(z, follow=True) * weight).sum()

    (gradient,) = torch.autograd.grad(value(features), features)
    h = 1e-5
    numeric = (value(features + h * direction) - value(features - h * direction)) / (2 * h)
    assert (gradient * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-4)


def test_conformance_calls_the_released_gradient_masked() -> None:
    backbone = load_backbone("miniclip-vit")
    bench = Bench(method("clipure_diff+encoder=no_grad"), backbone, default_material(backbone, 4))
    status, sentence = check_masked_gradient(bench)
    assert status == "warn"
    assert "masked gradient: zero on 100% of the images" in sentence
