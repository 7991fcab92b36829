"""Visual prompting: where frame and tokens enter, and that an attack in training goes through them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.frames import at_size, border
from vlm_gauntlet.methods.visual_prompt.losses import text_guided
from vlm_gauntlet.methods.visual_prompt.method import Prompt, VisualPrompt, frame_width
from vlm_gauntlet.methods.visual_prompt.train import VisualPromptTraining, train
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase, read_recipe
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))
RECIPES = Path(__file__).parents[2] / "methods" / "visual_prompt" / "recipes"


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 40.0}, attack=attack)


def test_the_loss_by_hand() -> None:
    """Probabilities 3/4 and 1/2 of the true classes: (ln 4/3 + ln 2) / 2 = 0.4904."""
    logits = torch.tensor([[0.0, 1.0986123], [0.0, 0.0]])
    assert text_guided(logits, torch.tensor([1, 0])).item() == pytest.approx(0.4904147)
    some = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda z: text_guided(z, torch.tensor([1, 0])), some)


def test_the_frame_is_as_wide_as_in_the_paper() -> None:
    assert (frame_width(224), frame_width(32)) == (30, 4)
    mask = border(32, 4)
    assert mask[4:28, 4:28].sum() == 0 and mask.sum() == 32 * 32 - 24 * 24


def test_the_frame_is_added_behind_the_normalisation(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Written out on the normalised picture, which may leave the range of pixels; nothing inside the frame moves."""
    learned = Prompt(10 * Prompt.untrained(tiny_backbone, 0).frame)
    normalised = (images - tiny_backbone.mean) / tiny_backbone.std + learned.frame
    features = F.normalize(tiny_backbone.clip.encode_image(normalised), dim=-1)
    expected = tiny_backbone.logit_scale * features @ tiny_backbone.text_features(prompts).T
    assert torch.allclose(learned.logits(tiny_backbone, images, prompts), expected, atol=1e-4)
    inside = replace(learned, frame=learned.frame + 5 * (1 - border(16, 2)))
    assert torch.equal(inside.logits(tiny_backbone, images, prompts), learned.logits(tiny_backbone, images, prompts))


def test_tokens_pass_the_first_norm_and_all_layers(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Written out: behind the patch tokens, before the norm, without a position; not replaced in later layers."""
    learned = Prompt.untrained(tiny_backbone, 3)
    tower = tiny_backbone.clip.visual
    framed = images + learned.frame * tiny_backbone.std
    tokens = tower._embeds((framed - tiny_backbone.mean) / tiny_backbone.std)  # already behind the norm
    count = tokens.shape[1]
    tokens = torch.cat([tokens, tower.ln_pre(learned.tokens).expand(6, -1, -1)], dim=1)
    pooled, _ = tower._pool(tower.transformer(tokens)[:, :count])
    features = F.normalize(pooled @ tower.proj, dim=-1)
    expected = tiny_backbone.logit_scale * features @ tiny_backbone.text_features(prompts).T
    found = learned.logits(tiny_backbone, images, prompts)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, replace(learned, tokens=None).logits(tiny_backbone, images, prompts), atol=1e-3)
    larger = replace(learned, tokens=3 * learned.tokens)
    assert torch.allclose(larger.logits(tiny_backbone, images, prompts), found, atol=1e-2)


def test_only_the_prompt_learns_and_its_attack_leaves_no_gradient(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = VisualPromptTraining(tiny_backbone, Prompt.untrained(tiny_backbone, 2), prompts)
    make_optimiser(training, phase())
    clean, attacked = (
        training.loss(Batch({"images": images, "labels": LABELS}, KEYS), phase(eps))["adversarial"]
        for eps in ("0", "8/255")
    )
    assert attacked > clean and all(w.grad is None for w in training.weights.values())
    attacked.backward()
    assert all(w.grad.abs().max() > 0 for w in training.weights.values())
    assert (training.learned.frame.grad * (1 - border(16, 2))).abs().max() == 0
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_the_attack_goes_through_the_prompt(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Other prompts, other pictures: the inner problem is that of the prompted model."""
    found = []
    for scale in (0.0, 10.0):
        start = Prompt(scale * Prompt.untrained(tiny_backbone, 0).frame)
        training, seen = VisualPromptTraining(tiny_backbone, start, prompts), []
        own = training.learned.logits
        object.__setattr__(
            training.learned, "logits", lambda b, x, p, own=own, seen=seen: seen.append(x) or own(b, x, p)
        )
        training.loss(Batch({"images": images, "labels": LABELS}, KEYS), phase())
        found.append(seen[-1])
    assert not torch.equal(*found)


@pytest.mark.parametrize("chosen", [{"tokens": "0"}, {"training_budget": "parser-default"}])
def test_a_checkpoint_says_its_switches(
    chosen: dict[str, str], tmp_path: Path, job_of: Callable[..., TrainingJob]
) -> None:
    (tmp_path / "short.toml").write_text(
        "epochs = 1\nbatch_size = 4\nshots = 2\noptimiser = { name = 'sgd', learning_rate = 1.0 }\n"
        "attack = { eps = '8/255', steps = 1, step_size = '8/255' }\n"
    )
    path = train(job_of("visual_prompt", tmp_path, wanted=str(tmp_path / "short.toml"), deviations=chosen))
    assert path.name == "tiny" + "".join(f"+{n}={c}" for n, c in chosen.items()) + ".safetensors"


def test_switches_change_the_recipe_and_the_prompt(tiny_backbone: Backbone) -> None:
    paper, parser = (
        read_recipe(RECIPES / "reproduction.toml", d).phases[0] for d in ({}, {"training_budget": "parser-default"})
    )
    assert [(float(p.budget.eps), p.budget.steps) for p in (paper, parser)] == [(1 / 255, 2), (2 / 255, 5)]
    assert paper.optimiser.learning_rate == 40
    assert Prompt.untrained(tiny_backbone, 100).tokens.shape == (100, 32)


def test_towers_without_tokens_take_the_frame_alone(images: Tensor, prompts: PromptSet) -> None:
    convolutional = load_backbone("miniclip-cnn")
    with pytest.raises(UnavailableError, match="transformer image tower"):
        Prompt.untrained(convolutional, 10)
    learned = Prompt.untrained(convolutional, 0)
    assert VisualPrompt(convolutional, {"tokens": "0"}, learned=learned)(images, prompts).shape == (6, 5)
    assert at_size(convolutional, images).shape[-1] == convolutional.image_size


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match=r"gauntlet train visual_prompt\+tokens=0 --backbone tiny"):
        VisualPrompt(tiny_backbone, {"tokens": "0"})
