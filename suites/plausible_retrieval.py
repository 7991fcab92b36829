"""Whether a retrieval outcome can be true: of the captions and the code that are here, of its own ranks."""

from collections.abc import Iterator
from contextlib import suppress

from vlm_gauntlet.attacks.multimodal.recipes import RECIPES
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbones import OPEN_CLIP, embedded
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError

from .known_here import KnownHere, differing
from .plausible import DIGESTS, Doubt, late
from .retrieval import is_tower
from .retrieval_records import RetrievalOutcome


def retrieval_doubts(outcome: RetrievalOutcome, here: KnownHere) -> list[Doubt]:
    """Everything that speaks against an outcome, or could not be looked at; empty for one that this code may have made.

    Args:
        outcome: any that validates.
        here: what is known.
    """
    found: list[Doubt] = []
    for check in (_attack, _ranks, _captions, _code):
        try:
            found += check(outcome, here)
        except GauntletError as error:
            found.append(Doubt("unknown here", error.short))
    return found


def _attack(outcome: RetrievalOutcome, _: KnownHere) -> Iterator[Doubt]:
    cell = outcome.cell
    if cell.attack not in RECIPES:
        yield Doubt("unknown here", f"attack {cell.attack!r} is not known here")
    if cell.eps > 1:
        yield Doubt("impossible", f"eps = {cell.eps}: images have values from 0 to 1")


def _ranks(outcome: RetrievalOutcome, _: KnownHere) -> Iterator[Doubt]:
    """What follows from the numbers alone: a rank counts wrong answers, of which there are only so many."""
    images, captions = outcome.image_to_text.n, outcome.text_to_image.n
    for way, ranks, wrong in (
        ("image to text", outcome.image_to_text, captions - 1),
        ("text to image", outcome.text_to_image, images - 1),
    ):
        if (worst := max(*ranks.clean, *ranks.attacked)) > wrong:
            yield Doubt("impossible", f"{way}: rank {worst} among {wrong} wrong answers")
    if outcome.cell.eps == 0 and not outcome.captions_changed:
        both = outcome.image_to_text, outcome.text_to_image
        if any(ranks.clean != ranks.attacked for ranks in both):
            yield Doubt("impossible", "other ranks after an attack that changed no image and no caption")


def _captions(outcome: RetrievalOutcome, here: KnownHere) -> Iterator[Doubt]:
    """Images and captions, counted in the data set."""
    cell, n = outcome.cell, outcome.image_to_text.n
    try:
        data, _ = here.samples(cell.dataset, 1)
    except UnavailableError:
        yield Doubt("not checked here", f"images and captions: data set {cell.dataset!r} is not on this machine")
        if n < cell.limit:
            yield Doubt("incomplete", f"{n} images at limit {cell.limit}, and no data here to say why")
        return
    if not data.retrieval:
        yield Doubt("impossible", f"{cell.dataset!r} is a classification set")
        return
    if cell.dataset_digest != data.digest:
        yield Doubt("unknown here", f"data of another revision, {cell.dataset_digest[:12]}; here {data.digest[:12]}")
        return
    counts = [len(example.captions) for example in data.chosen(cell.limit)]
    if n < len(counts):
        yield Doubt("incomplete", f"{n} images, where limit {cell.limit} takes {len(counts)}")
    elif n > len(counts):
        yield Doubt("impossible", f"{n} images, where the data set has {len(counts)}")
    elif outcome.text_to_image.n != (captions := sum(counts)):
        yield Doubt("impossible", f"{outcome.text_to_image.n} captions, where these images have {captions}")
    else:
        pairs = zip(outcome.image_to_text.clean, outcome.image_to_text.attacked, counts, strict=True)
        if late := [i for i, (clean, after, own) in enumerate(pairs) if max(clean, after) > captions - own]:
            yield Doubt("impossible", f"image {late[0]} has its rank among {captions - counts[late[0]]} wrong captions")


def _code(outcome: RetrievalOutcome, here: KnownHere) -> Iterator[Doubt]:
    cell, chosen = outcome.cell, here.method(outcome.cell.method)
    if chosen is None:
        yield Doubt("unknown here", f"method {cell.method!r} is not known here")
        return
    if not is_tower(chosen):
        yield Doubt("impossible", f"{cell.method} is more than a tower: it has no features to compare")
        return
    yield from late(outcome.provenance.files, outside=chosen.outside)
    if cell.backbone not in embedded() and not cell.backbone.startswith(OPEN_CLIP):
        yield Doubt("unknown here", f"backbone {cell.backbone!r} is not known here")
    known = here.loaded(cell.method, cell.backbone)
    if cell.attack in RECIPES:
        known |= {"code_digest": here.retrieval_code(cell.method, cell.backbone, cell.attack)}
    with suppress(UnavailableError):
        known |= {"text_source_digest": build_source(cell.text).digest}
    for name in differing(cell, known):
        yield Doubt("unknown here", f"made with another {DIGESTS[name]} than is here")
    if unknown := [words for name, words in DIGESTS.items() if name != "attack_digest" and name not in known]:
        yield Doubt("not checked here", " and ".join(unknown))
