"""Image-text retrieval under attack: R@k both ways of a tower, before and after its images and captions were attacked.

The attacker knows the tower (white-box). Every image is attacked, also one that was wrong before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.multimodal.ascent import PairAscent
from vlm_gauntlet.attacks.multimodal.pairs import attack_pairs
from vlm_gauntlet.attacks.multimodal.recipes import recipe
from vlm_gauntlet.attacks.text.reader import TextTower
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.sources.base import Source
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.closure import code_digest, root_of
from vlm_gauntlet.fixtures.datasets import Dataset, Example, dataset, to_tensor
from vlm_gauntlet.fixtures.device import device_name
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Maker, Provenance
from vlm_gauntlet.methods.late_files import LateFiles, joined
from vlm_gauntlet.methods.registry import Method, from_outside, method

from .apart import Apart, Limits
from .attacking import OUTSIDE
from .described import Described, described
from .device_record import system_of
from .keys import method_roots, with_architecture
from .maker import maker_here
from .recall import Ranks, ranks
from .retrieval_records import Features, RetrievalBatch, RetrievalCell, RetrievalJournal, RetrievalOutcome
from .running import this_command
from .versions import versions_here


@dataclass(frozen=True)
class Setting:
    """An evaluation before anything heavy was loaded: names, and the attacker's budget."""

    method: str
    backbone: str
    dataset: str
    attack: str
    eps: Fraction
    text: WordSwap
    limit: int
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 16


def run_retrieval(
    setting: Setting,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    maker: Maker | None = None,
) -> RetrievalOutcome:
    """Runs an evaluation, takes up one that was killed, or takes a finished one from the folder.

    That of a method from outside runs in a process of its own, and tells of no progress.

    Args:
        setting: what to run.
        folder: of outcomes; the file lies in its part `retrieval`.
        progress: called with (images done, images in all) after each batch.
        maker: who says to run it; default: what the environment says.

    Raises:
        UnavailableError: weights, data or candidate words are not on this machine.
        GauntletError: the data set has no captions, the method is more than a tower, or a killed run had another
            batch size.
    """
    recipe(setting.attack)  # a wrong name costs no loading
    maker = maker or maker_here()
    if not from_outside(setting.method):
        return _run_here(setting, folder, progress, maker)
    described(setting.method)  # within the limits of an import
    limits = Limits(seconds=(OUTSIDE.seconds or 0) * -(-setting.limit // setting.batch_size), memory=OUTSIDE.memory)
    with Apart(Stand, setting, str(folder), maker, what=f"retrieval of {setting.method}", limits=limits) as there:
        key = str(there.ask("run"))
    if (found := RetrievalJournal(folder).find(key)) is None:
        raise GauntletError(
            f"retrieval of {setting.method} left no outcome {key[:40]!r}", expected="one in its folder",
            where=str(folder), fix="run it again; its code may not touch the outcomes",
        )  # fmt: skip
    return found


class Stand:
    """What lives in the process of a method from outside.

    Args:
        setting, folder, maker: see `run_retrieval`.
    """

    def __init__(self, setting: Setting, folder: str, maker: Maker) -> None:
        self.setting, self.folder, self.maker = setting, Path(folder), maker

    def run(self) -> str:
        """The key of the outcome, which is then in the folder."""
        return _run_here(self.setting, self.folder, None, self.maker).key


def _run_here(
    setting: Setting, folder: Path, progress: Callable[[int, int], None] | None, maker: Maker
) -> RetrievalOutcome:
    loaded, journal = _load(setting), RetrievalJournal(folder)
    with journal.lock(loaded.cell.key):
        return journal.find(loaded.cell.key) or _run(setting, loaded, journal, progress, maker)


def _run(
    setting: Setting,
    loaded: "Loaded",
    journal: RetrievalJournal,
    progress: Callable[[int, int], None] | None,
    maker: Maker,
) -> RetrievalOutcome:
    cell, examples = loaded.cell, list(loaded.data.chosen(setting.limit))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        to_text, to_image, changed, files = _evaluate(loaded, examples, setting, journal, progress)
    outcome = RetrievalOutcome(
        key=cell.key, cell=cell, image_to_text=to_text, text_to_image=to_image, captions_changed=changed,
        provenance=Provenance(
            made=datetime.now(UTC).replace(microsecond=0), device=device_name(setting.device),
            versions={**versions_here(), **system_of(setting.device)},
            command=this_command(), batch_size=setting.batch_size, maker=maker, files=files,
        ),
    )  # fmt: skip
    journal.write(outcome)
    return outcome


def retrieval_code(chosen: Method, backbone: str, attack: str) -> str:
    """Digest of the code of method, attack and ranks, and of the embedded backbone's architecture.

    Raises:
        GauntletError: nobody knows the attack.
    """
    roots = [__name__, *method_roots(chosen), root_of(type(recipe(attack).make(0.0)))]
    return with_architecture(code_digest(roots), backbone)


def is_tower(chosen: Method | Described) -> bool:
    """Whether a method is an image tower and nothing else, which retrieval takes features of."""
    return chosen.card.paradigm == "undefended" or chosen.offers("tuned_backbone")


def cell_of(setting: Setting) -> RetrievalCell:
    """The cell of a setting as code, weights and data are here; errors as of `run_retrieval`."""
    return _load(setting).cell


@dataclass(frozen=True)
class Loaded:
    """A cell with what it stands on, and who hears what files the method's code opens."""

    tower: Backbone
    data: Dataset
    cell: RetrievalCell
    files: LateFiles


def _load(setting: Setting) -> Loaded:
    chosen, data = method(setting.method), dataset(setting.dataset)
    if not data.retrieval:
        raise GauntletError(
            f"{data.name!r} is a classification set", expected="a retrieval set", where="--dataset",
            fix="emoji_captions is embedded; coco_captions and flickr30k come from the data root",
        )  # fmt: skip
    data.checked()
    backbone, files = load_backbone(setting.backbone, setting.device), LateFiles(chosen)
    with files.hearing():
        defence = chosen.build(backbone).to(setting.device)
    if not is_tower(chosen):
        raise GauntletError(
            f"{chosen.label} is more than a tower", expected="the undefended model or a fine-tuned one",
            where="--method", fix="retrieval compares features, and this method gives logits",
        )  # fmt: skip
    with files.hearing():
        tower = backbone if chosen.card.paradigm == "undefended" else defence.tuned_backbone
    cell = RetrievalCell(
        method=chosen.label, method_digest=chosen.built_digest(defence, backbone),
        backbone=backbone.name, backbone_digest=backbone.digest,
        dataset=data.name, dataset_digest=data.digest, attack=setting.attack, eps=setting.eps, text=setting.text,
        text_source_digest=build_source(setting.text).digest, seed=setting.seed, limit=setting.limit,
        code_digest=retrieval_code(chosen, backbone.name, setting.attack),
    )  # fmt: skip
    return Loaded(tower, data, cell, files)


def _evaluate(
    loaded: Loaded,
    examples: Sequence[Example],
    setting: Setting,
    journal: RetrievalJournal,
    progress: Callable[[int, int], None] | None,
) -> tuple[Ranks, Ranks, int, dict[str, str]]:
    """Ranks both ways, how many captions the attack changed, and the files that the tower's code read."""
    tower, files, key = loaded.tower, loaded.files, loaded.cell.key
    attack, source = recipe(setting.attack).make(float(setting.eps)), build_source(setting.text)
    captions = [example.captions for example in examples]
    owner = torch.tensor([i for i, group in enumerate(captions) for _ in group], device=tower.device)
    with files.hearing():
        texts = read(tower, [text for group in captions for text in group])

    def decide(features: Tensor) -> Tensor:
        """Similarity with the nearest clean caption of each image of the set."""
        groups = torch.split(features @ texts.T, [len(group) for group in captions], dim=1)
        return torch.stack([group.amax(1) for group in groups], dim=1)

    done = journal.batches(key)
    for index, start in enumerate(range(0, len(examples), setting.batch_size)):
        part = examples[start : start + setting.batch_size]
        if index == len(done):
            with files.hearing():
                made = _attacked(tower, part, start, setting, attack, source, decide)
            done.append(made.model_copy(update={"files": files.found()}))
            journal.append(key, done[index])
        elif done[index].ids != tuple(example.id for example in part):
            raise GauntletError(
                f"a partial log with a batch of {len(done[index].ids)}",
                expected=f"batches of {setting.batch_size}, as this run asks", where=str(journal.partial(key)),
                fix="use the same --batch-size, or remove the file",
            )  # fmt: skip
        if progress:
            progress(start + len(part), len(examples))

    def features(side: Callable[[RetrievalBatch], Features]) -> Tensor:
        return torch.tensor([feature for batch in done for feature in side(batch)], device=tower.device)

    with files.hearing():
        after = read(tower, [text for batch in done for text in batch.captions])
    before = ranks(features(lambda batch: batch.clean) @ texts.T, owner)
    behind = ranks(features(lambda batch: batch.attacked) @ after.T, owner)
    to_text, to_image = (
        Ranks(clean=tuple(b.tolist()), attacked=tuple(a.tolist())) for b, a in zip(before, behind, strict=True)
    )
    read_in_all = joined(*(batch.files for batch in done), files.found())
    return to_text, to_image, sum(batch.changed for batch in done), read_in_all


def _attacked(
    tower: Backbone,
    part: Sequence[Example],
    start: int,
    setting: Setting,
    attack: PairAscent,
    source: Source,
    decide: Callable[[Tensor], Tensor],
) -> RetrievalBatch:
    """One batch: the images from `start` on, with their captions."""
    images = torch.stack([to_tensor(example.image, tower.image_size) for example in part]).to(tower.device)
    done = attack_pairs(
        attack, tower, images, [example.captions for example in part],
        torch.arange(start, start + len(part), device=tower.device),
        tuple(key_of(setting.seed, "attack", example.id) for example in part),
        decide=decide, rules=setting.text, source=source,
    )  # fmt: skip

    def features(pictures: Tensor) -> Features:
        with torch.no_grad():
            return tuple(map(tuple, F.normalize(tower.encode_image(pictures).float(), dim=-1).tolist()))

    sentences = [sentence for group in done.sentences for sentence in group]
    return RetrievalBatch(
        ids=tuple(example.id for example in part), clean=features(images), attacked=features(done.result.images),
        captions=tuple(sentence.after for sentence in sentences),
        changed=sum(bool(sentence.positions) for sentence in sentences),
    )  # fmt: skip


def read(tower: Backbone, sentences: Sequence[str], chunk: int = 256) -> Tensor:
    """Unit features [M, D] in float32 of any number of sentences."""
    reader = TextTower(tower)
    parts = [reader(sentences[start : start + chunk]).float() for start in range(0, len(sentences), chunk)]
    return torch.cat(parts)
