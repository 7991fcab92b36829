"""The diffusion priors of CLIPure-Diff: noising, loss, DALL-E 2's architecture, checkpoints, training."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.methods.clipure_diff import train as training
from vlm_gauntlet.methods.clipure_diff.dalle2 import CausalTransformer, DALLE2Prior, Norm, Shape
from vlm_gauntlet.methods.clipure_diff.method import CLIPureDiff
from vlm_gauntlet.methods.clipure_diff.prior import ALPHA_BAR, Condition, Prior
from vlm_gauntlet.methods.clipure_diff.residual import ResidualPrior
from vlm_gauntlet.methods.clipure_diff.train import Embeddings, null_loss
from vlm_gauntlet.methods.clipure_diff.weights import CANDIDATE, load_prior, read_dalle2
from vlm_gauntlet.training.checkpoint import pin_text
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.pins import Pin

D = 16
KNOWN = torch.arange(512) % 10 != 0  # of the clusters: one in ten is held out
TINY = Shape(dim=D, depth=2, heads=2, head_width=8, words=3)


@pytest.fixture(scope="module")
def dalle2() -> DALLE2Prior:
    torch.manual_seed(0)
    return DALLE2Prior(TINY).eval().requires_grad_(False)


def ask(prior: Prior, noised: Tensor, timestep: int, condition: Condition | None = None) -> Tensor:
    timesteps = torch.full((len(noised),), timestep)
    return prior(noised, timesteps, Condition.null(noised) if condition is None else condition)


def told(features: Tensor, text: Tensor, keep_text: bool = True, keep_image: bool = True) -> Condition:
    kept = torch.ones(len(features), dtype=torch.bool)
    return Condition(text.expand_as(features), kept & keep_text, kept & keep_image)


def test_the_schedule_runs_from_the_embedding_to_noise() -> None:
    """abar_t = cos^2((t/T + s)/(1 + s) pi/2) over its value at zero, T = 1000, s = 0.008."""
    level = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 1, 500, 900, 1000)]
    assert ALPHA_BAR[0].item() == pytest.approx(level[1] / level[0]) and ALPHA_BAR[0] > 0.9999
    assert ALPHA_BAR[[499, 899]].tolist() == pytest.approx([level[2] / level[0], level[3] / level[0]])
    assert 0 < ALPHA_BAR[999] < 1e-6
    assert (ALPHA_BAR.diff() < 0).all()


@pytest.mark.parametrize("timestep", [0, 500, 999])
def test_noising_keeps_unit_variance(timestep: int, dalle2: DALLE2Prior) -> None:
    """A unit embedding times sqrt(D) has mean square one, and so has its noised form."""
    generator = torch.Generator().manual_seed(0)
    scaled = math.sqrt(D) * F.normalize(torch.randn(4000, D, generator=generator), dim=-1)
    noised = dalle2.noised(scaled, torch.full((4000,), timestep), torch.randn(4000, D, generator=generator))
    assert noised.square().mean().item() == pytest.approx(1.0, abs=0.02)


def test_the_loss_is_the_squared_error_of_the_scaled_embedding(prior: ResidualPrior, clusters: Embeddings) -> None:
    features, timesteps = clusters.image[:6], torch.tensor([0, 10, 500, 900, 950, 999])
    noise = torch.randn(6, D, generator=torch.Generator().manual_seed(1))
    level = ALPHA_BAR[timesteps].float()[:, None]
    x0 = 4.0 * features  # sqrt(16)
    x_t = level.sqrt() * x0 + (1 - level).sqrt() * noise
    expected = F.mse_loss(prior(x_t, timesteps, Condition.null(x0)), x0, reduction="none").mean(1)
    assert torch.allclose(prior.loss(features, timesteps, noise, Condition.null(x0)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["prior", "dalle2"])
def test_null_hides_the_text_and_a_dropped_image_is_not_seen(kind: str, request: pytest.FixtureRequest) -> None:
    network: Prior = request.getfixturevalue(kind)
    first, second = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(2))
    text, other = F.normalize(torch.randn(2, D, generator=torch.Generator().manual_seed(3)), dim=-1)
    null = ask(network, first, 900)
    assert torch.equal(null, ask(network, first, 900, told(first, text, keep_text=False)))
    assert not torch.allclose(ask(network, first, 900, told(first, text)), ask(network, first, 900, told(first, other)))
    assert not torch.allclose(null, ask(network, first, 901)), "the timestep is told"
    unseen = [ask(network, image, 900, told(image, text, False, False)) for image in (first, second)]
    assert not torch.allclose(null, ask(network, second, 900))
    if kind == "dalle2":
        assert torch.allclose(unseen[0], unseen[1], atol=1e-6)
    else:  # its gate passes on what it was given in the image's place
        assert torch.equal(unseen[0], unseen[1])


def test_dalle2_reads_words_and_fills_the_rest_with_learned_ones(dalle2: DALLE2Prior) -> None:
    """Three places: the first word is told, the second is all zeros, the third is not there; dropped text has none."""
    seen: list[Tensor] = []
    hook = dalle2.causal_transformer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    word, text = torch.full((D,), 2.0), torch.full((D,), 0.5)
    noised, kept = torch.randn(2, D, generator=torch.Generator().manual_seed(0)), torch.tensor([True, False])
    told = Condition(text.expand(2, -1), kept, torch.tensor([True, False]), torch.stack([word, torch.zeros(D)]))
    ask(dalle2, noised, 900, told)
    ask(dalle2, noised, 900, Condition(text.expand(2, -1), ~kept, kept))
    hook.remove()
    nulls = dalle2.null_text_encodings[0]
    assert torch.equal(seen[0][0, :3], torch.stack([word, nulls[1], nulls[2]])) and torch.equal(seen[0][1, :3], nulls)
    assert torch.equal(seen[1][1, :3], nulls), "kept, and without words"
    assert torch.equal(seen[0][0, 3], text) and torch.equal(seen[0][1, 3], dalle2.null_text_embeds[0, 0])
    assert torch.equal(seen[0][0, 5], noised[0]) and torch.equal(seen[0][1, 5], dalle2.null_image_embed[0])


def test_dalle2s_tensors_have_the_shapes_of_its_checkpoints(dalle2: DALLE2Prior) -> None:
    """Of DALLE2-pytorch at 680dfc4, where the null image has one axis fewer than the null texts."""
    shapes = {name: tuple(p.shape) for name, p in dalle2.named_parameters() if "." not in name}
    assert shapes == {"learned_query": (D,), "null_text_encodings": (1, 3, D), "null_text_embeds": (1, 1, D),
                      "null_image_embed": (1, D)}  # fmt: skip


def test_the_last_norm_divides_by_the_largest_channel_first() -> None:
    """(1, 2, 4) 1e-3 is (1/4, 1/2, 1), of mean 7/12 and variance 7/72; unscaled, the epsilon of 1e-5 would rule."""
    tokens = torch.tensor([1e-3, 2e-3, 4e-3])
    by_hand = (torch.tensor([0.25, 0.5, 1.0]) - 7 / 12) / (7 / 72 + 1e-5) ** 0.5
    assert torch.allclose(Norm(3, stable=True)(tokens), by_hand, atol=1e-6)
    assert Norm(3)(tokens).abs().max() < 0.7 < 1.3 < by_hand.abs().max()
    assert CausalTransformer(TINY).norm.stable


def test_dalle2_is_causal(dalle2: DALLE2Prior) -> None:
    """A token's output does not change with what follows it, and the last one sees the first."""
    tokens = torch.randn(1, 7, D, generator=torch.Generator().manual_seed(0))
    whole = dalle2.causal_transformer(tokens)
    assert torch.allclose(dalle2.causal_transformer(tokens[:, :4]), whole[:, :4], atol=1e-5)
    assert not torch.allclose(dalle2.causal_transformer(tokens[:, 1:])[:, -1], whole[:, -1], atol=1e-3)


def test_dalle2_tells_positions_apart(dalle2: DALLE2Prior) -> None:
    tokens = torch.randn(1, 6, D, generator=torch.Generator().manual_seed(0))
    swapped = tokens[:, [1, 0, 2, 3, 4, 5]]
    last = [dalle2.causal_transformer(t)[:, -1] for t in (tokens, swapped)]
    assert not torch.allclose(*last, atol=1e-4)


def test_the_published_size_of_dalle2s_prior() -> None:
    """768 wide, 24 layers, 32 heads of 64: counted by hand from the layer shapes."""
    with torch.device("meta"):
        found = sum(p.numel() for p in DALLE2Prior().causal_transformer.layers.parameters())
    attention = 768 + 2 * 64 + 768 * 2048 + 768 * 128 + 2048 * 768 + 768
    feed = 768 + 768 * 2 * 3072 + 3072 + 3072 * 768
    assert found == 24 * (attention + feed) + 16, "and one shared table of 16 rotary frequencies"


def pin_of(content: bytes, base: str = "any") -> Pin:
    return Pin(sha256=sha256(content), size=len(content), base=base, command="fetch")


@pytest.mark.parametrize("layout", ["bare.safetensors", "model.pth", "ema_model.pth"])
def test_a_dalle2_checkpoint_loads_as_pinned(layout: str, dalle2: DALLE2Prior, tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in dalle2.state_dict().items()}
    if layout == "bare.safetensors":
        content = save(tensors)
    else:
        buffer = io.BytesIO()
        others = {"noise_scheduler.betas": torch.zeros(3)}
        held = {"model": {**{f"net.{k}": v for k, v in tensors.items()}, **others}}
        if layout.startswith("ema"):  # the code takes the averaged weights where there are any
            held = {"ema_model": held["model"], "model": {f"net.{k}": torch.zeros_like(v) for k, v in tensors.items()}}
        torch.save(held, buffer)
        content = buffer.getvalue()
    path = tmp_path / layout
    with pytest.raises(UnavailableError, match=str(len(content))):
        read_dalle2(path, pin_of(content))
    path.write_bytes(content)
    loaded = read_dalle2(path, pin_of(content))
    noised = torch.randn(4, D, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ask(loaded, noised, 950), ask(dalle2, noised, 950))
    path.write_bytes(content[:-1] + b"\0\0")
    with pytest.raises(GauntletError, match="SHA-256"):
        read_dalle2(path, pin_of(content))


def test_a_foreign_or_executable_checkpoint_is_refused(dalle2: DALLE2Prior, tmp_path: Path) -> None:
    class Stranger:
        pass

    state = dict(dalle2.state_dict())
    state["to_time_embeds.1.weight"] = torch.zeros(2)
    for content in (state, {"a": torch.zeros(2)}, {"model": Path("x")}):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        (tmp_path / "prior.pth").write_bytes(buffer.getvalue())
        with pytest.raises(GauntletError, match="does not load"):
            read_dalle2(tmp_path / "prior.pth", pin_of(buffer.getvalue()))


def renamed(backbone: Backbone, name: str, digest: str) -> Backbone:
    other = backbone.tuned({})
    other.name, other.digest = name, digest
    return other


def test_without_a_prior_the_cell_is_not_run(tiny_backbone: Backbone, dalle2: DALLE2Prior, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train clipure_diff --backbone tiny"):
        CLIPureDiff(tiny_backbone)
    large = renamed(tiny_backbone, "open_clip:ViT-L-14-quickgelu/openai", "large")
    with pytest.raises(UnavailableError, match=CANDIDATE):
        load_prior(large)
    buffer = io.BytesIO()
    torch.save(dalle2.state_dict(), buffer)
    pin = pin_of(buffer.getvalue(), base="large")
    (tmp_path / "checkpoints.toml").write_text(pin_text("dalle2-vit-l-14", pin))
    with pytest.raises(UnavailableError, match="no weights file dalle2-vit-l-14"):
        load_prior(large, folder=tmp_path, root=tmp_path)
    (tmp_path / "priors").mkdir()
    (tmp_path / "priors" / "dalle2-vit-l-14.pth").write_bytes(buffer.getvalue())
    assert load_prior(large, folder=tmp_path, root=tmp_path).dim == D
    with pytest.raises(GauntletError, match="whose embeddings the prior has learned"):
        load_prior(renamed(large, large.name, "another"), folder=tmp_path, root=tmp_path)


Trained = Callable[..., ResidualPrior]


def test_training_learns_the_embeddings_and_repeats(clusters: Embeddings, train_prior: Trained) -> None:
    known, held = clusters.part(torch.arange(512) >= 64), clusters.image[:64]
    first, second = (train_prior(known, epochs=4, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    trained, fresh = train_prior(known, epochs=150, seed=0), train_prior(known, epochs=0, seed=0)
    losses = [null_loss(p, held, first=0, last=999) for p in (trained, known.image.mean(0), fresh)]
    assert losses[0] < 0.6 * losses[1] < losses[1] < losses[2]


def test_a_trained_prior_loads_by_the_pin_that_training_reports(
    tiny_backbone: Backbone,
    clusters: Embeddings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    job_of: Callable[..., TrainingJob],
    train_prior: Trained,
) -> None:
    monkeypatch.setattr(training, "embed", lambda backbone, data: clusters)
    said: list[str] = []
    path = training.train(job_of("clipure_diff", tmp_path, epochs=2, report=said.append))
    assert path == tmp_path / "tiny.safetensors" and "of the mean of the 460 others" in said[0]
    (tmp_path / "checkpoints.toml").write_text(said[-1])
    loaded, trained = load_prior(tiny_backbone, folder=tmp_path), train_prior(clusters.part(KNOWN), epochs=2, seed=0)
    losses = [null_loss(p, clusters.image, first=0, last=999) for p in (loaded, trained)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01), "int8 costs next to nothing"


@pytest.mark.parametrize(("first", "last", "most"), [(0, 999, 0.5), (900, 999, 1.0)])
def test_the_shipped_prior_beats_every_constant(first: int, last: int, most: float) -> None:
    """On evaluation pictures, which it never saw: the mean of these very pictures is the best constant there is."""
    backbone = load_backbone("miniclip-vit")
    sample = {"fashion_mnist": 180, "digits": 20, "emoji_groups": 60}
    batches = [next(datasets()[name].batches(limit=n, batch_size=n, size=32)) for name, n in sample.items()]
    with torch.no_grad():
        features = F.normalize(backbone.encode_image(torch.cat([b.images for b in batches])), dim=-1)
    found = null_loss(load_prior(backbone), features, first=first, last=last, rounds=20)
    assert found < most * null_loss(features.mean(0), features, first=first, last=last)
