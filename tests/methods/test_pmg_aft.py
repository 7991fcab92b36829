"""PMG-AFT: divergences by hand, every variant in circulation as a switch, and whom the gradient reaches."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.normalisation import MEAN, STD, normalised_as_imagenet
from vlm_gauntlet.methods.pmg_aft.losses import divergence, guided
from vlm_gauntlet.methods.pmg_aft.method import PMGAFT
from vlm_gauntlet.methods.pmg_aft.train import PMGAFTTraining, train
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

KEYS = tuple(range(6))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
P, Q = torch.tensor([[math.log(3), 0.0], [1.0, 1.0]]), torch.zeros(2, 2)
P_Q = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2  # (3/4, 1/4) and (1/2, 1/2), then twice the same
Q_P = (0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def moved(backbone: Backbone, prompts: PromptSet, **deviations: str) -> PMGAFTTraining:
    """A training whose tower is no longer the original's."""
    training = PMGAFTTraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in training.weights.values():
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=noise))
    return training


def batch(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, KEYS)


def test_divergences_have_their_arguments_in_order() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 ln 3/2 + 1/4 ln 1/2; the other way 1/2 ln 2/3 + 1/2 ln 2; a mean over two."""
    assert divergence(P, Q).item() == pytest.approx(P_Q, rel=1e-5)
    assert divergence(Q, P).item() == pytest.approx(Q_P, rel=1e-5)
    made = torch.Generator().manual_seed(0)
    pair = tuple(torch.randn(3, 4, dtype=torch.float64, generator=made, requires_grad=True) for _ in range(2))
    assert gradcheck(divergence, pair)


def test_the_three_terms_by_hand() -> None:
    """Attacked Q, original P, clean Q: CE is ln 2, the original's divergence as above, the clean one's 0."""
    labels = torch.tensor([0, 1])
    assert [t.item() for t in guided(Q, P, Q, labels)] == pytest.approx([math.log(2), P_Q, 0], abs=1e-6)
    swapped = guided(Q, P, Q, labels, reference_first=False)
    assert [t.item() for t in swapped] == pytest.approx([math.log(2), Q_P, 0], abs=1e-6)
    swapped = guided(Q, Q, P, labels, reference_first=False)
    assert [t.item() for t in swapped] == pytest.approx([math.log(2), 0, Q_P], abs=1e-6)


def test_at_the_start_on_clean_images_only_the_cross_entropy_is_left(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    terms = PMGAFTTraining(tiny_backbone, prompts, {}).loss(batch(images), phase("0"))
    assert terms["general"].abs() < 1e-6 and terms["clean"].abs() < 1e-6 and terms["robust"] > 0.1


def test_the_original_sees_the_attacked_images(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """With a tower that is the original's, the divergence to the original is 0 under attack as well; to the clean
    answer it is not."""
    terms = PMGAFTTraining(tiny_backbone, prompts, {}).loss(batch(images), phase())
    assert terms["general"].abs() < 1e-6 and terms["clean"] > 1e-4


@pytest.mark.parametrize(
    ("switch", "choice", "changed"),
    [
        ("direction", "attacked-first", {"general", "clean"}),
        ("reduction", "sum", {"general", "clean"}),
        ("temperature", "one", {"robust", "general", "clean"}),
        ("normalisation", "imagenet", {"robust", "general", "clean"}),
        ("clean_branch", "constant", set()),
    ],
)
def test_a_switch_changes_what_it_names(
    switch: str, choice: str, changed: set[str], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    plain, other = (
        moved(tiny_backbone, prompts, **d).loss(batch(images), phase()) for d in ({}, {switch: choice})
    )  # fmt: skip
    assert {n for n in plain if not torch.isclose(plain[n], other[n], rtol=1e-4)} == changed
    if switch == "reduction":
        assert torch.isclose(other["general"], 6 * plain["general"]) and torch.isclose(
            other["clean"], 6 * plain["clean"]
        )
    if switch == "temperature":
        assert other["general"] < 0.01 * plain["general"], "bare cosines make every softmax nearly uniform"


def test_a_sum_over_the_batch_stays_one_in_parts(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    training = moved(tiny_backbone, prompts, reduction="sum")
    whole = training.loss(batch(images), phase())
    parts = [(p.share, training.loss(p, phase())) for p in batch(images).parts(2)]
    for name in whole:
        assert torch.isclose(sum(share * terms[name] for share, terms in parts), whole[name], rtol=1e-4)


def gradients(training: PMGAFTTraining, images: Tensor, term: str) -> float:
    training.loss(batch(images), phase())[term].backward()
    return sum(float(p.grad.norm()) for p in training.weights.values() if p.grad is not None)


def test_only_the_loss_reaches_the_tower_and_nothing_the_original(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = moved(tiny_backbone, prompts)
    terms = training.loss(batch(images), phase())
    assert all(p.grad is None for p in training.weights.values()), "the attack leaves no gradient"
    sum(terms.values()).backward()
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_a_constant_clean_branch_gets_no_gradient(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """The clean term's gradient differs; that of the others does not."""
    trained, constant = (
        {term: gradients(moved(tiny_backbone, prompts, clean_branch=c), images, term) for term in PMGAFTTraining.terms}
        for c in ("trained", "constant")
    )
    assert abs(trained["clean"] - constant["clean"]) > 1e-2 * trained["clean"]
    for term in ("robust", "general"):
        assert trained[term] == pytest.approx(constant[term], rel=1e-4)


def test_the_imagenet_normalisation_is_a_copys_own(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    before = tiny_backbone(images, prompts)
    twin = normalised_as_imagenet(tiny_backbone)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    as_if = (images - mean) / std * tiny_backbone.std + tiny_backbone.mean
    assert torch.allclose(twin(images, prompts), tiny_backbone(as_if, prompts), atol=1e-4)
    assert torch.equal(tiny_backbone(images, prompts), before)
    assert not torch.allclose(twin(images, prompts), before, atol=1e-3)


def test_deviations_are_those_of_the_official_code() -> None:
    coded = {d.name: d.as_coded for d in PMGAFT.card.deviations}
    assert coded == {
        "direction": "reference-first", "reduction": "sum", "temperature": "one", "normalisation": "imagenet",
        "clean_branch": "trained",
    }  # fmt: skip
    switches = {n: c for n, c in coded.items() if c != {d.name: d.choices[0] for d in PMGAFT.card.deviations}[n]}
    assert {n: c for n, c in method("pmg_aft+as_coded").deviations.items() if n in switches} == switches


def test_the_recipe_trains_on_small_data(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    (tmp_path / "short.toml").write_text(
        f'base = "{Path(__file__).parents[2] / "methods/pmg_aft/recipes/miniclip-vit"}"\nepochs = 4\nbatch_size = 8\n'
        "schedule = { warmup = 1 }\n"
    )
    path = train(job_of("pmg_aft", tmp_path, wanted=str(tmp_path / "short.toml")))
    lines = path.with_name("tiny.loss.csv").read_text().splitlines()
    robust = [float(line.split(",")[lines[0].split(",").index("robust")]) for line in lines[1:]]
    assert len(robust) == 12 and sum(robust[-3:]) < sum(robust[:3])


def test_the_answer_comes_through_the_normalisation_of_the_training(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm_gauntlet.methods.own_checkpoint.load_checkpoint", lambda *args, **named: {})
    plain, other = (PMGAFT(tiny_backbone, {"normalisation": c}) for c in ("clip", "imagenet"))
    assert torch.allclose(plain(images, prompts), tiny_backbone(images, prompts), atol=1e-4)
    expected = normalised_as_imagenet(tiny_backbone)(images, prompts)
    assert torch.allclose(other(images, prompts), expected, atol=1e-4)
    assert torch.allclose(other.tuned_backbone(images, prompts), expected, atol=1e-4)


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match=r"tiny\+reduction=sum"):
        PMGAFT(tiny_backbone, {"reduction": "sum"})
