"""APT: what is attacked in training, what is learned, and which classes an own context for each of them answers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.apt import train as trainer
from vlm_gauntlet.methods.apt.losses import adversarial
from vlm_gauntlet.methods.apt.method import APT
from vlm_gauntlet.methods.apt.train import PROMPT_STEP, ContextTraining, train
from vlm_gauntlet.methods.learned_context import LearnedContext, cosine_logits
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase, read_recipe
from vlm_gauntlet.training.samples import Batch, InMemory, as_bytes
from vlm_gauntlet.training.trainer import fit, make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))
RECIPES = Path(__file__).parents[2] / "methods" / "apt" / "recipes"
NAMES = ("cat", "dog", "ship", "tree", "cup")


def phase(eps: str = "8/255", steps: int = 2) -> Phase:
    attack = {"eps": eps, "steps": steps, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def start(backbone: Backbone, *, each: bool = False, middle: bool = False) -> LearnedContext:
    return LearnedContext.untrained(backbone, 4, NAMES, each=each, middle=middle, seed=0)


def training_of(backbone: Backbone, prompts: PromptSet, strategy: str = "onfly", each: bool = False) -> ContextTraining:
    training = ContextTraining(backbone, start(backbone, each=each), prompts, strategy)
    make_optimiser(training, phase())
    return training


def test_the_loss_by_hand() -> None:
    """Logits (0, ln 3) and (0, 0), classes 1 and 0: probabilities 3/4 and 1/2, (ln 4/3 + ln 2) / 2 = 0.4904."""
    logits = torch.tensor([[0.0, 1.0986123], [0.0, 0.0]])
    assert adversarial(logits, torch.tensor([1, 0])).item() == pytest.approx(0.4904147)
    some = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda z: adversarial(z, torch.tensor([1, 0])), some)


@pytest.mark.parametrize("strategy", ["onfly", "constant", "perturbed"])
def test_only_the_step_reaches_the_context(
    strategy: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """The attack leaves no gradient, the context as it was to the bit (`perturbed` too), and the towers alone."""
    training = training_of(tiny_backbone, prompts, strategy)
    before = training.learned.vectors.detach().clone()
    loss = training.loss(Batch({"images": images, "labels": LABELS}, KEYS), phase())["adversarial"]
    assert training.learned.vectors.grad is None and torch.equal(training.learned.vectors, before)
    loss.backward()
    assert training.learned.vectors.grad is not None and training.learned.vectors.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in tiny_backbone.parameters())


def test_what_each_strategy_attacks(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """One objective each, written out at the given pictures: the context itself, or the words without a full stop."""
    fixed = tiny_backbone.text_features(PromptSet.from_templates(NAMES, ["a photo of a {c}"]))
    own = start(tiny_backbone).class_weights(tiny_backbone, prompts)
    features = tiny_backbone.encode_image(images)
    for strategy, weights in (("onfly", own), ("perturbed", own), ("constant", fixed)):
        expected = adversarial(cosine_logits(tiny_backbone, features, weights), LABELS)
        found = training_of(tiny_backbone, prompts, strategy).objective(LABELS)(images)
        assert torch.allclose(found, expected, atol=1e-5), strategy
        assert not found.requires_grad or strategy == "perturbed"


def test_the_perturbed_context_goes_up_by_plain_gradient_steps(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Two steps written out: V1 = V0 + lr g(V0), V2 = V1 + lr g(V1), where the loss rises."""
    training = training_of(tiny_backbone, prompts, "perturbed")
    ascent, vectors, losses = training.objective(LABELS), training.learned.vectors.detach().clone(), []
    for _ in range(2):
        losses.append(ascent(images).item())
        own = vectors.clone().requires_grad_()
        loss = adversarial(training.logits(images, training.class_weights(own)), LABELS)
        vectors = vectors + PROMPT_STEP * torch.autograd.grad(loss, own)[0]
    assert torch.allclose(ascent.vectors, vectors, atol=1e-6) and losses[1] > losses[0]


def test_strategies_find_other_pictures(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    def found(strategy: str) -> Tensor:
        objective = training_of(tiny_backbone, prompts, strategy).objective(LABELS)
        return worst_images(objective, images, KEYS, phase(steps=3).budget)

    onfly = found("onfly")
    assert not torch.equal(onfly, found("constant"))
    assert torch.equal(onfly, found("onfly"))


def test_the_perturbed_ascent_changes_the_pictures_found(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(strategy: str) -> Tensor:
        objective = training_of(tiny_backbone, prompts, strategy).objective(LABELS)
        return worst_images(objective, images, KEYS, phase("8/255", steps=3).budget)

    monkeypatch.setattr(trainer, "PROMPT_STEP", 0.0)
    assert torch.equal(found("perturbed"), found("onfly"))
    monkeypatch.setattr(trainer, "PROMPT_STEP", 1.0)
    assert not torch.equal(found("perturbed"), found("onfly"))


@pytest.mark.parametrize("crops", [False, True])
def test_pictures_are_cropped_before_they_are_attacked(
    crops: bool, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training, seen = training_of(tiny_backbone, prompts), []
    training.crops = crops

    def logits(pictures: Tensor, weights: Tensor) -> Tensor:
        seen.append(pictures)
        return cosine_logits(tiny_backbone, tiny_backbone.encode_image(pictures), weights)

    training.logits = logits
    training.loss(Batch({"images": images, "labels": LABELS}, KEYS), phase("0"))
    assert seen[-1].shape == images.shape and torch.equal(seen[-1], images) != crops


@pytest.mark.parametrize("each", [False, True])
def test_training_makes_the_context_robust(
    each: bool, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = ContextTraining(tiny_backbone, start(tiny_backbone, each=each), prompts, "onfly")
    recipe = read_recipe(RECIPES / "miniclip-vit.toml").lasting(steps=40)
    recipe = recipe.model_copy(update={"phases": tuple(p.model_copy(update={"batch_size": 6}) for p in recipe.phases)})
    fit(training, recipe, InMemory({"images": as_bytes(images), "labels": LABELS}, seed=0, digest="noise"), None)

    def loss(learned: LearnedContext) -> float:
        defence = APT(tiny_backbone, {"encoder": "clip"}, learned=learned)
        victim = Plain(lambda x: defence(x, prompts))
        return PGD("linf", 8 / 255, steps=5)(victim, images, LABELS, KEYS).telemetry["last_loss"].mean().item()

    assert loss(training.learned) < loss(start(tiny_backbone, each=each)) - 0.05


def test_class_specific_contexts_answer_their_own_classes_in_any_order(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    learned = start(tiny_backbone, each=True)
    defence = APT(tiny_backbone, {"encoder": "clip", "contexts": "class-specific"}, learned=learned)
    whole = defence(images, prompts)
    some = PromptSet.from_templates(["ship", "cat"], ["{c}"])
    assert torch.allclose(defence(images, some), whole[:, [2, 0]], atol=1e-5)
    with pytest.raises(UnavailableError, match=r"a context for 'lorry'[\s\S]*these classes only"):
        defence(images, PromptSet.from_templates(["cat", "lorry"], ["{c}"]))
    unified = APT(tiny_backbone, {"encoder": "clip"}, learned=start(tiny_backbone))
    assert unified(images, PromptSet.from_templates(["cat", "lorry"], ["{c}"])).shape == (6, 2)


def test_the_middle_is_another_place(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    end, middle = (
        APT(tiny_backbone, {"encoder": "clip"}, learned=start(tiny_backbone, middle=m))(images, prompts)
        for m in (False, True)
    )
    assert not torch.allclose(end, middle, atol=1e-4)


@pytest.mark.parametrize(
    "chosen",
    [
        {"tokens": "4"},
        {"crops": "random", "contexts": "class-specific", "position": "middle", "strategy": "perturbed"},
    ],
)
def test_a_checkpoint_says_its_switches_and_holds_its_classes(
    chosen: dict[str, str], tmp_path: Path, tiny_backbone: Backbone, job_of: Callable[..., TrainingJob]
) -> None:
    (tmp_path / "short.toml").write_text(
        "epochs = 1\nbatch_size = 4\nshots = 2\noptimiser = { name = 'sgd', learning_rate = 0.1 }\n"
        "attack = { eps = '8/255', steps = 1, step_size = '8/255' }\n"
    )
    asked = {"encoder": "clip", "position": "end", **chosen}
    said: list[str] = []
    path = train(job_of("apt", tmp_path, wanted=str(tmp_path / "short.toml"), deviations=asked, report=said.append))
    assert path.name == "tiny" + "".join(sorted(f"+{n}={c}" for n, c in asked.items() if c != "end")) + ".safetensors"
    from vlm_gauntlet.training.checkpoint import load_checkpoint

    (tmp_path / "checkpoints.toml").write_text(said[0])
    learned = LearnedContext.of(load_checkpoint(tmp_path, path.stem, tiny_backbone, train_with=""), middle=False)
    each = (5,) * ("contexts" in chosen)
    assert learned.class_names == NAMES and learned.vectors.shape == (*each, int(chosen.get("tokens", 1)), 16)


def test_it_stands_on_tecoas_tower_and_no_other() -> None:
    with pytest.raises(GauntletError, match="it brings TeCoA's tower"):
        method("apt@tecoa").build(load_backbone("miniclip-vit"))


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match=r"gauntlet train apt\+tokens=4 --backbone tiny"):
        APT(tiny_backbone, {"tokens": "4"})
    with pytest.raises(UnavailableError, match="gauntlet train tecoa --backbone tiny"):
        APT(tiny_backbone, learned=start(tiny_backbone))


def test_the_papers_recipe() -> None:
    warm, main = read_recipe(RECIPES / "reproduction.toml").phases
    assert (warm.epochs, warm.optimiser.learning_rate, main.epochs, main.optimiser.learning_rate) == (
        1,
        1e-5,
        199,
        2e-3,
    )
    assert float(main.budget.step_size) == pytest.approx(2 / 3 * float(main.budget.eps)) and main.budget.steps == 3
