"""FT-Clean, FT-Adv., FT-standard: what each id means, the loss in a batch by hand, and whom the gradient reaches."""

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.packing import unpack
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods import own_checkpoint
from vlm_gauntlet.methods.ft_adv.losses import one_hot
from vlm_gauntlet.methods.ft_adv.train import AdversarialTraining
from vlm_gauntlet.methods.ft_clean.losses import in_batch
from vlm_gauntlet.methods.ft_clean.train import CleanTraining
from vlm_gauntlet.methods.ft_standard.linear_probe import LinearProbe
from vlm_gauntlet.methods.ft_standard.train import LAST, PairTraining, StandardTraining
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import fit, make_optimiser

ROOT = Path(__file__).parents[2]
KEYS = tuple(range(6))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KINDS = [CleanTraining, AdversarialTraining, StandardTraining]


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def made(kind: type[CleanTraining], backbone: Backbone, prompts: PromptSet, **deviations: str) -> CleanTraining:
    training = kind(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def batch(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, KEYS)


def some(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_the_contrast_within_a_batch_by_hand() -> None:
    """Labels 1 and 0 of three classes. P = ((ln 3, 0), (0, 0)): rows 3/4 and 1/2 of the own, columns 3/4 and 1/2.

    The third class is in no picture's label and plays no part.
    """
    logits = torch.tensor([[0.0, math.log(3), 9.0], [0.0, 0.0, 9.0]])
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert in_batch(logits, torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-6)
    assert gradcheck(lambda z: in_batch(z, torch.tensor([1, 0, 1])), some(3, 3))


def test_the_contrast_has_both_directions() -> None:
    """P = ((ln 3, 0), (ln 3, 0)): rows 3/4 and 1/4 of the own, columns 1/2 and 1/2."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    rows, columns = (math.log(4 / 3) + math.log(4)) / 2, math.log(2)
    assert in_batch(logits, torch.tensor([0, 1])).item() == pytest.approx((rows + columns) / 2, rel=1e-6)


@pytest.mark.parametrize("times", [2, 3])
def test_equal_labels_are_false_negatives(times: int) -> None:
    """Perfect logits, one class so many times: equal columns share the probability, and no logits do better."""
    labels = torch.zeros(times, dtype=torch.long)
    assert in_batch(torch.tensor([[50.0, -50.0]] * times), labels).item() == pytest.approx(math.log(times), rel=1e-6)
    labels = torch.tensor([0] * times + [1])
    perfect = torch.tensor([[50.0, -50.0]] * times + [[-50.0, 50.0]])
    least = times * math.log(times) / (times + 1)
    assert in_batch(perfect, labels).item() == pytest.approx(least, rel=1e-6)
    assert all(in_batch(some(times + 1, 2).detach() * s, labels) > least for s in (0.1, 1, 10))


def test_one_hot_labels_by_hand() -> None:
    """Feature (1, 0), rows (ln 3, 5) and (0, 7): 3/4 of the first class."""
    head = torch.tensor([[math.log(3), 5.0], [0.0, 7.0]])
    assert one_hot(torch.tensor([[1.0, 0.0]]), head, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3))
    assert gradcheck(lambda f, w: one_hot(f, w, torch.tensor([1, 0])), (some(2, 3), some(4, 3)))


def test_what_each_id_trains_on(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """FT-Clean and FT-standard see the images as they are, in a batch and over all classes; FT-Adv. attacks them."""
    logits = tiny_backbone(images, prompts)
    values = [made(kind, tiny_backbone, prompts).loss(batch(images), phase())["contrast"] for kind in KINDS]
    assert torch.isclose(values[0], in_batch(logits, LABELS), atol=1e-5)
    assert torch.isclose(values[2], F.cross_entropy(logits, LABELS), atol=1e-5)
    assert values[1] > values[0]
    attacked = made(AdversarialTraining, tiny_backbone, prompts).loss(batch(images), phase("0"))["contrast"]
    assert torch.isclose(attacked, values[0], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "switch", "choice"),
    [
        (CleanTraining, "loss", "class-texts"), (StandardTraining, "loss", "in-batch"),
        (AdversarialTraining, "loss", "class-texts"), (AdversarialTraining, "loss", "one-hot"),
        (AdversarialTraining, "attack_loss", "trained"),
    ],
)  # fmt: skip
def test_a_switch_changes_the_loss(
    kind: type[CleanTraining], switch: str, choice: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    plain, other = (made(kind, tiny_backbone, prompts, **d) for d in ({}, {switch: choice}))
    values = [t.loss(batch(images), phase())["contrast"] for t in (plain, other)]
    assert not torch.isclose(*values, rtol=1e-5)
    assert other.couples_batch == (other.kind == "in-batch")


def test_the_attack_on_what_is_trained_finds_more_of_it(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    to_texts, to_batch = (
        made(AdversarialTraining, tiny_backbone, prompts, attack_loss=c).loss(batch(images), phase())["contrast"]
        for c in ("class-texts", "trained")
    )
    assert to_batch > to_texts


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_loss_reaches_the_tower(
    kind: type[CleanTraining], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = made(kind, tiny_backbone, prompts)
    loss = training.loss(batch(images), phase())["contrast"]
    assert all(p.grad is None for p in training.weights.values()), "the attack leaves no gradient"
    loss.backward()
    assert sum(float(p.grad.norm()) for p in training.weights.values() if p.grad is not None) > 0
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_a_head_is_trained_and_thrown_away(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    train = import_module("vlm_gauntlet.methods.ft_adv.train").train
    job = job_of("ft_adv", tmp_path, wanted=short("ft_adv", tmp_path), deviations={"loss": "one-hot"})
    training = AdversarialTraining(job.base, job.dataset.prompts, job.deviations)
    start = training.weights["head"].clone()
    fit(training, job.recipe, job.samples(), None)
    assert not torch.equal(training.weights["head"], start)
    left = {name.partition("::")[0].split(".")[0] for name in load_file(train(job))}
    assert "head" not in left and left


def test_the_last_block_alone(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    """Of CLIP's list: twelve tensors of the last block, and the layer norm; the projection is at the front of it."""
    names = list(made(StandardTraining, tiny_backbone, prompts, parameters="last-block").weights)
    assert len(names) == LAST
    assert {n.rpartition(".")[0].split(".")[0] for n in names} == {"transformer", "ln_post"}
    assert {n.split(".")[2] for n in names if n.startswith("transformer")} == {"1"}, "the second of two blocks"
    assert list(made(StandardTraining, tiny_backbone, prompts).weights).index("proj") < 3


def test_a_contrast_within_a_batch_is_not_computed_in_parts(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    asked = Path(short("ft_clean", tmp_path))
    asked.write_text(asked.read_text() + "accumulate = 2\n")
    train = import_module("vlm_gauntlet.methods.ft_clean.train").train
    with pytest.raises(GauntletError, match="compares the samples of a batch"):
        train(job_of("ft_clean", tmp_path, wanted=str(asked)))
    train(job_of("ft_clean", tmp_path, wanted=str(asked), deviations={"loss": "class-texts"}))


def short(name: str, folder: Path) -> str:
    recipe = folder / "short.toml"
    recipe.write_text(f'base = "{ROOT / "methods" / name / "recipes/miniclip-vit"}"\nepochs = 3\nbatch_size = 8\n')
    return str(recipe)


@pytest.mark.parametrize("name", ["ft_clean", "ft_adv", "ft_standard"])
def test_the_recipe_trains_on_small_data(name: str, tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    path = import_module(f"vlm_gauntlet.methods.{name}.train").train(
        job_of(name, tmp_path, wanted=short(name, tmp_path))
    )
    lines = path.with_name("tiny.loss.csv").read_text().splitlines()
    assert lines[0].endswith(",contrast") and len(lines) == 10


def test_reproduction_recipes_are_those_of_the_sources(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    phases = [job_of(n, tmp_path).recipe.phases[0] for n in ("ft_clean", "ft_adv", "ft_standard")]
    assert [p.optimiser.learning_rate for p in phases] == [1e-4, 1e-4, 1e-6]
    assert [p.attack is None for p in phases] == [True, False, True]
    assert (phases[2].optimiser.name, phases[2].optimiser.betas, phases[2].optimiser.weight_decay) == (
        "adam", (0.9, 0.98), 0.2,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ft_clean", "ft_adv", "ft_standard"])
def test_without_a_checkpoint_the_cell_is_not_run(name: str, tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match=f"gauntlet train {name} --backbone tiny"):
        method(name).build(tiny_backbone)


def test_a_probe_answers_by_name_and_refuses_other_classes() -> None:
    """Features (1, 2): 1, 4 and 5 of the rows (1, 0), (0, 2), (1, 2)."""
    probe = LinearProbe(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]]), ("cat", "dög", "a bus"))
    again = LinearProbe.of(probe.tensors)
    for names, expected in ((("cat", "dög", "a bus"), [1, 4, 5]), (("a bus", "cat"), [5, 1])):
        assert again(torch.tensor([[1.0, 2.0]]), names)[0].tolist() == expected
    with pytest.raises(UnavailableError, match="'bird' and 1 others"):
        again(torch.ones(1, 2), ("cat", "bird", "fish"))


@pytest.mark.parametrize("kind", ["class-texts", "in-batch"])
def test_both_encoders_are_trained_on_pairs(
    kind: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """With one sentence a class the loss is that of the image tower alone, and reaches both towers and the scale."""
    single = PromptSet(prompts.class_names, tuple(group[:1] for group in prompts.prompts))
    pairs, alone = (k(tiny_backbone, single, {"loss": kind}) for k in (PairTraining, StandardTraining))
    make_optimiser(pairs, phase())
    loss = pairs.loss(batch(images), phase())["contrast"]
    assert loss.item() == pytest.approx(alone.loss(batch(images), phase())["contrast"].item(), abs=1e-4)
    assert pairs.couples_batch == (kind == "in-batch")
    loss.backward()
    for names in pairs.groups("main").values():
        assert sum(float(g.norm()) for n in names if (g := pairs.weights[n].grad) is not None) > 0, names[0]
    assert pairs.groups("main").keys() == {"image", "text", "tokens", "scale"}
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_a_probe_moves_no_encoder_and_is_found_by_its_switch(
    tmp_path: Path, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, job_of: Callable[..., TrainingJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    train = import_module("vlm_gauntlet.methods.ft_standard.train").train
    asked = {"wanted": short("ft_standard", tmp_path)}
    path = train(job_of("ft_standard", tmp_path, deviations={"parameters": "linear-probe"}, **asked))
    assert set(load_file(path)) == {"beside:rows", "beside:names"}
    kept = {path.stem: unpack(load_file(path))}
    monkeypatch.setattr(own_checkpoint, "load_checkpoint", lambda folder, name, base, train_with: kept[name])
    defence = method("ft_standard+parameters=linear-probe").build(tiny_backbone)
    names = defence.probe.names[1::-1]
    asked_for = PromptSet.from_templates(names, ["a {c}"])
    expected = tiny_backbone.encode_image(images) @ defence.probe.rows[[1, 0]].T
    assert torch.allclose(defence(images, asked_for), expected, atol=1e-5) and expected.std() > 0
    with pytest.raises(UnavailableError, match="classes among the"):
        defence(images, PromptSet.from_templates(["nothing", "such"], ["a {c}"]))
    with pytest.raises(UnavailableError, match="as a backbone"):
        defence.tuned_backbone  # noqa: B018 - refuses
    with pytest.raises(GauntletError, match="leave one of the two"):
        train(job_of("ft_standard", tmp_path, deviations={"parameters": "last-block", "encoders": "both"}, **asked))
