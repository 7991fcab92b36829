"""What must always hold, for every attack and every defence: property tests with hypothesis.

Profiles: `fast` (the default) and `nightly` (`--hypothesis-profile nightly`); `--hypothesis-show-statistics` counts the
examples. Victims here are small and exact, so that a broken law is the attack's fault and nobody else's.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from zlib import crc32

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vlm_gauntlet.attacks.balls import outside
from vlm_gauntlet.attacks.base import Attack, Plain
from vlm_gauntlet.attacks.losses import margin
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.protocols import protocols, varied
from vlm_gauntlet.attacks.registry import as_reported, attack, attacks, build
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import attack_sentence
from vlm_gauntlet.attacks.text.sources.base import Source
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.registry import method, methods
from vlm_gauntlet.methods.victims import BoundDefence
from vlm_gauntlet.suites.text_rules import broken_rules

pytestmark = pytest.mark.fast
SIDE, CLASSES, BATCH = 6, 5, 3
KEYS = (11, 12, 13)
EDGES = (0.0, 1.0, 1e-38, 1 - 2**-24)
BUDGETS = st.sampled_from(
    [Fraction(0), Fraction(1, 10**6), Fraction(1, 255), Fraction(4, 255), Fraction(1, 2), Fraction(1)]
)
SEEDS = st.integers(0, 2**32)
BY_CLASS = {"odi-pgd", "odi-apgd", "a3"}  # their starts follow numbers that are drawn for each class in turn
GRADIENT_FREE = {"noise", "universal"}  # without a search, so that they may break nothing


def image_protocols() -> Iterator[Protocol]:
    """One protocol for each attack on images and each ball that it knows."""
    for name, kind in attacks().items():
        known = [p for p in protocols().values() if p.attack.name == name and kind.info.modality == "image"]
        for template, norm in ((known[0], norm) for norm in kind.info.norms if known):
            threat = template.threat.model_copy(update={"norm": norm})
            yield template.model_copy(update={"threat": threat, "id": f"{name}-{norm}"})


PROTOCOLS = {p.id: p for p in image_protocols()}


@pytest.fixture(params=PROTOCOLS)
def recipe(request: pytest.FixtureRequest) -> Protocol:
    """Each attack in each ball."""
    return PROTOCOLS[request.param]


def attack_of(recipe: Protocol, eps: Fraction, *, steps: int = 3, restarts: int = 1) -> Attack:
    threat = recipe.threat.model_copy(update={"eps": eps})
    names = as_reported(attack(recipe.attack.name))
    budget = {names[what]: steps for what in ("steps", "queries") if what in names}
    if not budget and "rounds" in names:  # its rounds are its budget
        budget = {names["rounds"]: steps}
    budget |= {"restarts": restarts} if restarts > 1 else {}
    made = build(varied(recipe.model_copy(update={"threat": threat}), **budget))
    assert made is not None
    if isinstance(made, PGD):
        made.stop = True
    return made


class Smooth(nn.Module):
    """A small smooth classifier in float64, so that rounding plays no part."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        sizes = [3 * SIDE * SIDE, 16, CLASSES]
        weights = [torch.randn(m, n, generator=generator, dtype=torch.float64) / m**0.5 for m, n in pairwise(sizes)]
        self.inner, self.outer = (nn.Parameter(weight) for weight in weights)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 8 * torch.tanh(4 * (images.double() - 0.5).flatten(1) @ self.inner) @ self.outer
        return logits


def pictures(seed: int, *, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Three pictures; where the whole range is allowed, half of the values lie at its borders."""
    generator = torch.Generator().manual_seed(seed)
    images = low + (high - low) * torch.rand(BATCH, 3, SIDE, SIDE, generator=generator)
    if (low, high) == (0.0, 1.0):
        edges = torch.tensor(EDGES)[torch.randint(len(EDGES), images.shape, generator=generator)]
        images = torch.where(torch.rand(images.shape, generator=generator) < 0.5, edges, images)
    return images


@given(seed=SEEDS, eps=BUDGETS)
def test_an_attack_stays_in_the_ball_and_the_box(recipe: Protocol, seed: int, eps: Fraction) -> None:
    images, model = pictures(seed), Smooth()
    result = attack_of(recipe, eps)(Plain(model), images, model(images).argmax(1), KEYS)
    assert not outside(result.images, images, norm=recipe.threat.norm, eps=float(eps)).any()
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert not result.repaired.any(), "by itself, not by the base class's projection"
    if eps == 0:
        assert torch.equal(result.images, images)


@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_bits_and_leaves_the_model_alone(recipe: Protocol, seed: int) -> None:
    images, model = pictures(seed), Smooth()
    before = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    labels = model(images).argmax(1)
    first, second = (attack_of(recipe, Fraction(4, 255))(Plain(model), images, labels, KEYS).images for _ in "ab")
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state()), "the caller's random stream"
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(model.parameters(), before, strict=True))


@given(seed=SEEDS)
def test_neither_batch_nor_order_matters(recipe: Protocol, seed: int) -> None:
    images, model, attack = pictures(seed), Smooth(), attack_of(recipe, Fraction(4, 255))
    labels = model(images).argmax(1)
    whole = attack(Plain(model), images, labels, KEYS).images
    alone = [attack(Plain(model), images[i : i + 1], labels[i : i + 1], KEYS[i : i + 1]).images for i in range(BATCH)]
    turned = attack(Plain(model), images.flip(0), labels.flip(0), KEYS[::-1]).images.flip(0)
    assert torch.allclose(whole, torch.cat(alone), atol=1e-6)
    assert torch.allclose(whole, turned, atol=1e-6)


@given(seed=SEEDS, turn=st.integers(1, CLASSES - 1))
def test_permuted_classes_give_the_same_attack(recipe: Protocol, seed: int, turn: int) -> None:
    if recipe.attack.name in BY_CLASS:
        pytest.skip("another order of the classes is another draw")
    images, model, attack = pictures(seed), Smooth(), attack_of(recipe, Fraction(4, 255))
    labels = model(images).argmax(1)
    # Unsure, since of a saturated loss only rounding is left: the float32 sum over the classes has another order.
    plain = attack(Plain(lambda x: model(x) / 8), images, labels, KEYS).images
    turned = attack(Plain(lambda x: model(x).roll(turn, 1) / 8), images, (labels + turn) % CLASSES, KEYS).images
    moved = ((plain - turned).abs() > 1e-4).flatten(1).double().mean(1)  # a gradient near zero may change its sign
    reached, other = (margin(model(adversarial) / 8, labels) for adversarial in (plain, turned))
    assert ((moved < 0.02) | ((reached - other).abs() < 0.01)).all()  # of losses that tie, another may be the higher


class Brightest(nn.Module):
    """Says which third of the picture's values is brightest: without a bound, any class can be reached."""

    def forward(self, images: Tensor) -> Tensor:
        return 10 * images.double().view(len(images), 3, -1).mean(2)


@given(seed=SEEDS)
def test_an_unbounded_attack_breaks_everything(recipe: Protocol, seed: int) -> None:
    if recipe.attack.name in GRADIENT_FREE:
        pytest.skip("without a search")
    images, model = pictures(seed), Brightest()
    bound = Fraction(1) if recipe.threat.norm == "linf" else Fraction(11)  # the box's diagonal is below 11
    steps = 10 if recipe.threat.knowledge != "black-box" else 150
    result = attack_of(recipe, bound, steps=steps)(Plain(model), images, model(images).argmax(1), KEYS)
    assert result.success.all()


def half_space(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Two classes cut by a plane -> (model, images, each image's L-inf distance from the plane)."""
    weight = torch.randn(3 * SIDE * SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    images = pictures(seed, low=0.4, high=0.6)

    class Plane(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = (x.double() - 0.5).flatten(1) @ weight
            return torch.stack([score, -score], 1)

    return Plane(), images, ((images.double() - 0.5).flatten(1) @ weight).abs() / weight.abs().sum()


@pytest.mark.parametrize("name", [n for n in PROTOCOLS if n.startswith(("pgd-linf", "apgd-ce-linf", "bim", "mi-fgsm"))])
@given(seed=SEEDS, share=st.sampled_from([0.9, 1.1]))
def test_on_a_plane_an_attack_succeeds_exactly_beyond_the_distance(name: str, seed: int, share: float) -> None:
    """Hence a larger eps never helps the defender."""
    model, images, distance = half_space(seed)
    labels = model(images).argmax(1)
    for i in range(BATCH):
        eps = Fraction(float(distance[i]) * share).limit_denominator(10**6)
        if eps < Fraction(1, 1000):  # below, float32 images cannot tell the sides apart
            continue
        one = slice(i, i + 1)
        attack, key = attack_of(PROTOCOLS[name], eps, steps=20), (KEYS[i],)
        result = attack(Plain(model), images[one], labels[one], key)
        assert bool(result.success) == (share > 1)


@given(seed=SEEDS)
def test_more_steps_and_more_restarts_never_help_the_defender(seed: int) -> None:
    images, model, recipe = (
        pictures(seed),
        Smooth(),
        PROTOCOLS["pgd-linf"].model_copy(update={"selection": "any-iterate"}),
    )
    labels, eps = model(images).argmax(1), Fraction(8, 255)
    broken = [
        attack_of(recipe, eps, steps=steps, restarts=restarts)(Plain(model), images, labels, KEYS).success
        for steps, restarts in ((2, 1), (4, 1), (4, 3))
    ]
    assert (broken[0] <= broken[1]).all() and (broken[1] <= broken[2]).all()


@pytest.mark.parametrize("black_box", [n for n, p in PROTOCOLS.items() if p.threat.knowledge == "black-box"])
def test_black_box_never_beats_white_box_by_more_than_noise(black_box: str) -> None:
    model, eps = Smooth(), Fraction(8, 255)
    images = torch.cat([pictures(seed) for seed in range(20)])
    labels, keys = model(images).argmax(1), tuple(range(len(images)))
    seeing = attack_of(PROTOCOLS["apgd-ce-linf"], eps, steps=20)(Plain(model), images, labels, keys).success
    unseeing = attack_of(PROTOCOLS[black_box], eps, steps=100)(Plain(model), images, labels, keys).success
    assert int(unseeing.sum()) <= int(seeing.sum()) + 2
    assert 5 < int(seeing.sum()) < len(images), "neither trivial nor hopeless, so that the comparison says something"


def distinct() -> list[str]:
    """The methods by id; of those whose code at inference is one and the same, the first."""
    seen: dict[object, str] = {}
    for name, kind in sorted(methods().items()):
        seen.setdefault((kind.__call__, kind.forward, kind.surrogate), name)
    return list(seen.values())


@pytest.mark.parametrize("name", distinct())
@pytest.mark.parametrize("attack", ["pgd-linf", "apgd-ce-linf", "square-linf"])
def test_every_defence_survives_every_kind_of_attack_unchanged(name: str, attack: str) -> None:
    """Gradient steps, a library's loop, queries: images in the ball, the defence's bits the same, no gradients left."""
    backbone, data = load_backbone("miniclip-vit"), dataset("fashion_mnist")
    batch = next(data.batches(limit=1, batch_size=1, size=backbone.image_size))
    try:
        defence = method(name).build(backbone)
    except UnavailableError as missing:
        pytest.skip(f"not run: {missing}")
    before = {n: t.clone() for n, t in [*defence.named_parameters(), *defence.named_buffers()]}
    result = attack_of(PROTOCOLS[attack], Fraction(4, 255), steps=1)(
        BoundDefence(defence, data.prompts, KEYS[:1]), batch.images, batch.labels, KEYS[:1]
    )
    assert not outside(result.images, batch.images, norm="linf", eps=4 / 255).any()
    after = [*defence.named_parameters(), *defence.named_buffers()]
    assert all(torch.equal(t, before[n]) and t.grad is None for n, t in after)


class Letters:
    """Reads a sentence by its pairs of letters; a short memory, so that some sentences do not fit."""

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        counts = torch.zeros(len(sentences), 32, dtype=torch.float64)
        for row, sentence in zip(counts, sentences, strict=True):
            for pair in pairwise(f"<{sentence}>"):
                row[crc32("".join(pair).encode("utf-8", "surrogatepass")) % 32] += 1
        return nn.functional.normalize(counts, dim=1)

    def fits(self, sentence: str) -> bool:
        return len(sentence) <= 60


class Tempter:
    """Offers what the rules forbid, and one word that they allow."""

    digest = ""

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        return [w for w in ("the", "Dog", "cats", "ankle", "boot", "Of", "t-shirt", "lamp") if w != words[position]]


NAMES = ("cat", "dog", "t-shirt", "shirt", "ankle boot")
SPOKEN = [*NAMES, "a", "The", "of", "photo", "boots", "it's", "small,", "(red)", "2nd"]
SENTENCES = st.lists(st.sampled_from(SPOKEN), max_size=8).map(" ".join) | st.text(max_size=30)
SWAPS = {f"{r.source}-{r.index_shift}": r for p in protocols().values() if (r := getattr(build(p), "text", None))}
RULES = st.fixed_dictionaries(
    {
        "candidates": st.integers(1, 12),
        "stop_words": st.sampled_from(["case-sensitive", "case-folded"]),
        "distance": st.sampled_from(["kl", "squared"]),
        "forbid_class_names": st.booleans(),
        "max_length": st.integers(1, 9),
    }
)


@pytest.fixture(params=["tempter", *SWAPS])
def words(request: pytest.FixtureRequest) -> tuple[Source, WordSwap]:
    """Each source of candidates that this machine has, and rules that name it."""
    if request.param == "tempter":
        return Tempter(), WordSwap(source="characters")
    try:
        return build_source(SWAPS[request.param]), SWAPS[request.param]
    except UnavailableError as missing:
        pytest.skip(f"not run: {missing}")


@given(text=SENTENCES, switches=RULES, names=st.lists(st.sampled_from(NAMES), unique=True))
def test_an_attacked_sentence_keeps_the_rules(
    words: tuple[Source, WordSwap], text: str, switches: dict[str, object], names: list[str]
) -> None:
    """And a larger budget never helps the defender: the search goes on where the smaller one stopped."""
    (source, base), reader, reached = words, Letters(), 0.0
    for budget in (1, 2, 3):
        rules = base.model_copy(update={**switches, "budget": budget})
        first, second = (attack_sentence(text, reader, source, rules, class_names=names) for _ in "ab")
        assert first == second and first.before == text
        assert not broken_rules(first, rules, names)
        assert reader.fits(first.after) or first.after == text
        assert first.objective_after >= reached
        reached = first.objective_after
