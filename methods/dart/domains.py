"""Source and target of DART: drawing styles of emoji for miniclip-vit, else photos and cartoons (PACS)."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from vlm_gauntlet.fixtures.datasets import Dataset, to_tensor
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.miniclip import corpus as corpora
from vlm_gauntlet.training.miniclip import emoji, pictures
from vlm_gauntlet.training.miniclip.export import CLASSES, TEMPLATE
from vlm_gauntlet.training.samples import as_bytes

TARGETS = {"pacs_photo": "pacs_cartoon"}  # by source; both lie in one folder
HELD_OUT = 128  # of each set's fixed permutation: what a run with a limit of at most so many is asked about


def domains(job: TrainingJob) -> tuple[PromptSet, dict[str, Tensor]]:
    """The classes, and bytes `images` [N, 3, S, S] with `labels` [N] of the source and `target` [N, 3, S, S].

    The shorter domain is repeated until it is as long as the other.

    Raises:
        GauntletError: no target is known for the data, or it has other classes.
        UnavailableError: one of the two is not on this machine.
    """
    if job.backbone == "miniclip-vit":
        images, labels, target = styles(job.data, job.seed)
        prompts = PromptSet.from_templates(CLASSES["emoji_groups"], [TEMPLATE])
    elif job.data.name in TARGETS:
        shown = [Dataset(path.name, path) for path in (job.data, job.data.with_name(TARGETS[job.data.name]))]
        if shown[0].class_names != shown[1].class_names:
            raise GauntletError(
                f"{shown[0].name} and {shown[1].name} with other classes", expected="the same class names in one order",
                where=str(job.data.parent), fix="restore the two sets",
            )  # fmt: skip
        (images, labels), (target, _) = (behind(data, job.base.image_size) for data in shown)
        prompts = shown[0].prompts
    else:
        raise GauntletError(
            f"domains for {job.backbone!r} from {job.data.name!r}",
            expected=f"--backbone miniclip-vit with its sources, or one of: {', '.join(TARGETS)}",
            where="gauntlet train dart", fix="choose that backbone, or that folder",
        )  # fmt: skip
    count = max(len(images), len(target))
    source, other = (torch.arange(count) % len(domain) for domain in (images, target))
    return prompts, {"images": images[source], "labels": labels[source], "target": target[other]}


def behind(data: Dataset, size: int) -> tuple[Tensor, Tensor]:
    """Bytes [N, 3, size, size] and labels [N] of all but the first `HELD_OUT` of a set's fixed permutation."""
    total = sum(len(shard.entries) for shard in data.contents)
    examples = list(islice(data.chosen(total), HELD_OUT, None))
    if not examples:
        raise GauntletError(
            f"data set {data.name!r} of {total} pictures", expected=f"more than {HELD_OUT}, which are kept for tests",
            where=str(data.folder), fix="give the whole set",
        )  # fmt: skip
    images = torch.stack([as_bytes(to_tensor(example.image, size)) for example in examples])
    return images, torch.tensor([example.label for example in examples])


def styles(sources: Path, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bytes [N, 3, 32, 32] and groups [N] of emoji in the styles of training, and [M, 3, 32, 32] of the style held out.

    The target has no concept that a test set shows.
    """
    corpus = corpora.read_corpus(sources, seed)
    drawn = np.array([drawing.style for drawing in emoji.read_drawings(sources)])
    shifted = np.zeros(len(corpus.roles), bool)
    shifted[: len(drawn)] = drawn == corpora.SHIFTED_STYLE
    classes = CLASSES["emoji_groups"]
    grouped = np.array([concept.group in classes for concept in corpus.concepts])[corpus.concept_ids]
    tested = np.isin(corpus.concept_ids, corpus.concept_ids[np.char.startswith(corpus.roles, "emoji_")])
    source = np.flatnonzero(grouped & (corpus.roles == "train"))
    target = np.flatnonzero(grouped & shifted & (corpus.roles == "aside") & ~tested)
    labels = torch.tensor([classes.index(corpus.concept(int(row)).group) for row in source])
    shown = [torch.stack([pil_to_tensor(pictures.on_white(corpus.pictures[row])) for row in rows])
             for rows in (source, target)]  # fmt: skip
    return shown[0], labels, shown[1]
