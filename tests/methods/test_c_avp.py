"""C-AVP on CLIP: the answer by the diagonal, its losses by hand, and which classes frames of their own answer."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.c_avp.losses import by_class, margins, summed_means
from vlm_gauntlet.methods.c_avp.method import CAVP, Frames
from vlm_gauntlet.methods.c_avp.train import FrameTraining, train
from vlm_gauntlet.methods.frames import border
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))
NAMES = ("cat", "dog", "ship", "tree", "cup")
PHASE = Phase(
    epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1},
    attack={"eps": "8/255", "steps": 2, "step_size": "2/255"},
)  # fmt: skip


def frames(count: int = 5, seed: int = 0) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    return Frames(torch.randn(count, 3, 16, 16, generator=generator), NAMES)


def test_means_of_classes_by_hand() -> None:
    """Classes 0, 0, 2 with values 1, 3, 5: 2 + 5; class 1, which has none, adds nothing."""
    assert summed_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])).item() == 7.0
    logits = torch.zeros(3, 4)
    assert by_class(logits, torch.tensor([0, 0, 2])).item() == pytest.approx(2 * 1.3862944)


def test_margins_by_hand() -> None:
    """Two classes, one sample of class 0. Rows are prompts: (.6, .4) under prompt 0, (.7, .3) under prompt 1.

    CW1 = P_1(x + p_1) - P_0(x + p_0) = .3 - .6 = -.3, not below -.1: -.1. CW2, of class 1: .3 - .7 = -.4: -.1; of class
    0, of which the sample is: nothing. CW3 = P_0(x + p_1) - P_0(x + p_0) = .7 - .6 = .1. Together -.1.
    """
    probabilities = torch.tensor([[[0.6, 0.4], [0.7, 0.3]]])
    assert margins(probabilities, torch.tensor([0])).item() == pytest.approx(-0.1)
    assert margins(probabilities, torch.tensor([0]), tau=1.0).item() == pytest.approx(-0.3 - 0.4 + 0.1)
    """Of class 1: CW1 = .6 - .3 = .3; CW2, of class 0: .6 - .4 = .2; CW3 = .4 - .3 = .1."""
    assert margins(probabilities, torch.tensor([1])).item() == pytest.approx(0.6)


def test_losses_have_the_gradients_of_their_values() -> None:
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 2, 2, 1])
    assert gradcheck(lambda z: margins(z.softmax(-1), labels, tau=0.9), some)
    assert gradcheck(lambda z: by_class(z[:, 0], labels), some)


def test_the_answer_is_the_diagonal(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Each class is asked about under its own frame; written out: as logits stand the log-odds of P_k(x + p_k)."""
    learned = frames()
    found = CAVP(tiny_backbone, learned=learned)(images, prompts)
    for k in range(5):
        framed = (images + border(16, 4) * learned.pixels[k]).clamp(0, 1)
        probability = tiny_backbone(framed, prompts).softmax(-1)[:, k]
        assert torch.allclose(found[:, k].sigmoid(), probability, atol=1e-4)


def test_a_frame_leaves_the_middle_alone_and_stays_in_range(images: Tensor) -> None:
    framed = frames().on(images, [3, 1])
    assert framed.shape == (6, 2, 3, 16, 16) and framed.min() >= 0 and framed.max() <= 1
    assert torch.equal(framed[:, 0, :, 4:12, 4:12], images[:, :, 4:12, 4:12])
    assert not torch.allclose(framed[:, 0], framed[:, 1])


def test_class_wise_frames_answer_their_own_classes_and_the_universal_one_all(
    tiny_backbone: Backbone, images: Tensor
) -> None:
    others = PromptSet.from_templates(["cat", "lorry"], ["a photo of a {c}."])
    with pytest.raises(UnavailableError, match=r"a frame for 'lorry'[\s\S]*these classes only"):
        CAVP(tiny_backbone, learned=frames())(images, others)
    universal = CAVP(tiny_backbone, {"prompts": "universal"}, learned=frames(1))
    framed = (images + border(16, 4) * frames(1).pixels[0]).clamp(0, 1)
    assert torch.allclose(universal(images, others), tiny_backbone(framed, others), atol=1e-5)


@pytest.mark.parametrize(("universal", "with_margins"), [(False, True), (False, False), (True, True)])
def test_only_the_frames_learn(
    universal: bool, with_margins: bool, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = FrameTraining(tiny_backbone, prompts, universal=universal, margins=with_margins)
    make_optimiser(training, PHASE)
    terms = training.loss(Batch({"images": images, "labels": LABELS}, KEYS), PHASE)
    assert ("margins" in terms) == (with_margins and not universal)
    assert all(w.grad is None for w in training.weights.values())
    assert terms["adversarial"] > terms["clean"]
    expected = by_class(tiny_backbone(images, prompts), LABELS)  # the frames start at zero
    assert torch.allclose(terms["clean"], expected, atol=1e-4)
    torch.stack([*terms.values()]).sum().backward()
    assert training.learned.pixels.grad.abs().max() > 0
    assert (training.learned.pixels.grad * (1 - border(16, 4))).abs().max() == 0
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_the_attack_in_training_starts_from_the_prompted_picture(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = FrameTraining(tiny_backbone, prompts, universal=False, margins=False)
    training.learned = frames()
    own = training.own(images, LABELS)
    for i, label in enumerate(LABELS):
        assert torch.equal(own[i], training.learned.on(images[i : i + 1], [int(label)])[0, 0])
    still = PHASE.model_copy(update={"attack": PHASE.budget.model_copy(update={"eps": PHASE.budget.eps * 0})})
    loss = training.attacked(Batch({"images": images, "labels": LABELS}, KEYS), still)
    assert torch.allclose(loss, by_class(tiny_backbone(own, prompts), LABELS), atol=1e-5)


def test_training_lowers_its_loss_and_keeps_the_names(
    tmp_path: Path, tiny_backbone: Backbone, job_of: Callable[..., TrainingJob]
) -> None:
    (tmp_path / "short.toml").write_text(
        "epochs = 6\nbatch_size = 10\nshots = 2\noptimiser = { name = 'sgd', learning_rate = 0.3, momentum = 0.9 }\n"
        "attack = { eps = '4/255', steps = 1, step_size = '4/255' }\n"
    )
    said: list[str] = []
    path = train(job_of("c_avp", tmp_path, wanted=str(tmp_path / "short.toml"), report=said.append))
    losses = [float(line.split(",")[3]) for line in path.with_name("tiny.loss.csv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]
    (tmp_path / "checkpoints.toml").write_text(said[0])
    from vlm_gauntlet.methods.learned_context import names_of
    from vlm_gauntlet.training.checkpoint import load_checkpoint

    tensors = load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with="")
    assert names_of(tensors["class_names"]) == NAMES and tensors["pixels"].shape == (5, 3, 16, 16)


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match=r"gauntlet train c_avp\+loss=ce --backbone tiny"):
        CAVP(tiny_backbone, {"loss": "ce"})
