"""Attacked prompts on disk: a search that takes minutes is made once; its result is tried again before it is used."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.closure import code_digest, root_of
from vlm_gauntlet.fixtures.files import sha256, user_cache, write_atomically
from vlm_gauntlet.fixtures.prompts import PromptSet

from .objectives import DISTANCES
from .reader import TextTower
from .rules import WordSwap
from .search import Attacked
from .sources.base import Source

SEARCH = "vlm_gauntlet.attacks.text.search"
SENTENCES = TypeAdapter(tuple[Attacked, ...])
TOLERANCE = {"rel_tol": 1e-2, "abs_tol": 1e-6}  # of an objective on another machine; float32 features differ by less


def cached(
    tower: Backbone, prompts: PromptSet, rules: WordSwap, source: Source, search: Callable[[], Sequence[Attacked]]
) -> tuple[Attacked, ...]:
    """What a search found before, if it still holds on this tower; otherwise it is made now, and stored.

    Args:
        tower, prompts, rules, source: what decides the result; their digests name the file, with that of the code.
        search: makes it.
    """
    code = code_digest([SEARCH, root_of(type(source))])
    parts = (tower.digest, prompts.digest, rules.model_dump_json(), source.digest, code)
    path = folder() / f"{sha256(repr(parts).encode())[:32]}.json"
    found: tuple[Attacked, ...] = ()
    if path.is_file():
        with suppress(ValueError):
            found = SENTENCES.validate_json(path.read_bytes())
    texts = {text for group in prompts.prompts for text in group}
    if {sentence.before for sentence in found} == texts and _hold(found, tower, rules):
        return found
    made = tuple(search())
    with suppress(OSError):  # a cache that cannot be written costs time, not the run
        write_atomically(path, SENTENCES.dump_json(made, indent=1))
    return made


def folder() -> Path:
    """Where searches are stored: a part of the user's cache."""
    return user_cache() / "attacked-prompts"


def _hold(found: Sequence[Attacked], tower: Backbone, rules: WordSwap) -> bool:
    """Whether the objectives are on this tower what they were when the sentences were found."""
    reader, distance = TextTower(tower), DISTANCES[rules.distance]

    def holds(sentence: Attacked) -> bool:
        before, after = reader([sentence.before, sentence.after])
        return math.isclose(float(distance(before, after[None])[0]), sentence.objective_after, **TOLERANCE)

    return all(map(holds, found))
