"""What an attack on the sentences takes with few and with many classes (MMCoA), and how prompt losses pull (R-TPT)."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.learned_prompts import prompted_text_features, word_vectors
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.prompt_tuning import initial_prompts, marginal_entropy, mean_entropy, view_logits
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.views import draw_views, most_certain, pick
from vlm_gauntlet.suites.batch import Evaluation, attack_batch

from .finding import Figure, Finding, mean
from .scene import BATCH, Scene

TEXT_ATTACK = "text-char-1-transfer"
VIEWS, SHARE = 16, 0.25  # fewer views than the papers' 64, and a larger share of them, so that four count


def lost_to_text(scene: Scene, classes: list[int]) -> dict[int, float]:
    """What the text attack takes of each sample of these classes: right before, minus right after (by place)."""
    whole = scene.prompts
    prompts = PromptSet(tuple(whole.class_names[c] for c in classes), tuple(whole.prompts[c] for c in classes))
    places = [i for i, label in enumerate(scene.labels.tolist()) if label in classes]
    labels = torch.tensor([classes.index(int(scene.labels[i])) for i in places])
    undefended = method("undefended").build(scene.backbone)
    batch = Batch(tuple(map(str, places)), scene.images[places], labels)
    attacked = attack_batch(Evaluation(undefended, undefended, prompts, protocol(TEXT_ATTACK), 0), batch).prompts
    features = scene.features(batch.images)
    before, after = (scene.backbone.classify(features, p).argmax(1) == labels for p in (prompts, attacked or prompts))
    return dict(zip(places, (before.float() - after.float()).tolist(), strict=True))


def more_classes(scene: Scene) -> Figure:
    """What the text attack takes among all classes minus what it takes among half of them, a mean over samples."""
    count = len(scene.prompts)
    halves: dict[int, float] = {}
    for half in (list(range(0, count, 2)), list(range(1, count, 2))):
        halves |= lost_to_text(scene, half)
    whole = lost_to_text(scene, list(range(count)))
    return mean([whole[i] - halves[i] for i in sorted(whole)])


def pull(scene: Scene) -> Figure:
    """Cosine of the context's gradients of the two parts of TPT's loss on attacked images, a mean over samples.

    H(mean p) = mean H(p_i) + mean KL(p_i || mean p): each view sure of itself, and all views agreeing.
    """
    found: list[float] = []
    for at in range(0, len(scene.labels), BATCH):
        part = slice(at, at + BATCH)
        images, draws = scene.attacked[part], replace(scene.draws(), keys=scene.keys[part])
        views = draw_views(images, draws, VIEWS).render(images, scene.backbone.image_size)
        features = F.normalize(scene.features(views.flatten(0, 1)), dim=-1).view(len(images), VIEWS, -1)
        context = word_vectors(scene.backbone).repeat(len(images), 1, 1).requires_grad_()
        text = prompted_text_features(scene.backbone, initial_prompts(scene.prompts), context)
        logits = view_logits(scene.backbone, features, text)
        kept = pick(logits, most_certain(logits.detach(), SHARE))
        sure = mean_entropy(kept)
        agree = marginal_entropy(kept) - sure
        ours, theirs = (torch.autograd.grad(t.sum(), context, retain_graph=True)[0].flatten(1) for t in (sure, agree))
        found += F.cosine_similarity(ours, theirs).tolist()
    return mean(found)


FINDINGS = (
    Finding(
        "more-classes", "An attack on the text is stronger the more classes there are", "MMCoA (Zhou et al.)",
        f"accuracy lost to {TEXT_ATTACK} among all classes minus among half of them", 0.0, True, more_classes,
    ),
    Finding(
        "entropy-conflict", "The two parts of TPT's loss pull the prompt against each other on attacked images",
        "R-TPT (Sheng et al., CVPR 2025), section 3", "cosine of the parts' gradients in the context", 0.0, False, pull,
    ),
)  # fmt: skip
