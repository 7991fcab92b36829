"""Attacked prompts on disk: a search that takes minutes is made once; its result is judged again before it is used.

A file is believed where it says what was asked and by what code, every sentence lies within the rules and is on this
tower what it was, and no sentence that is searched for again comes out stronger: one of each file, all of them for a
verifier (`searching_again`).
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.closure import code_digest, root_of
from vlm_gauntlet.fixtures.files import sha256, user_cache, write_atomically
from vlm_gauntlet.fixtures.prompts import PromptSet

from .budget import within
from .objectives import DISTANCES
from .reader import TextTower
from .rules import WordSwap
from .search import Attacked
from .sources.base import Source

SEARCH = "vlm_gauntlet.attacks.text.search"
TOLERANCE = {"rel_tol": 1e-2, "abs_tol": 1e-6}  # of an objective on another machine; float32 features differ by less
Search = Callable[[Sequence[str]], Sequence[Attacked]]
_again: ContextVar[bool] = ContextVar("searching_again", default=False)


class Kept(BaseModel):
    """The content of a file: what was asked, by what code, and what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: tuple[str, ...]
    sentences: tuple[Attacked, ...]


@contextmanager
def searching_again() -> Iterator[None]:
    """Inside, nothing is taken from the disk without having been searched for again: what a verifier wants."""
    token = _again.set(True)
    try:
        yield
    finally:
        _again.reset(token)


def cached(
    tower: Backbone, prompts: PromptSet, rules: WordSwap, source: Source, search: Search
) -> tuple[Attacked, ...]:
    """What a search found before, if it still holds on this tower; otherwise it is made now, and stored.

    Args:
        tower, prompts, rules, source: what decides the result; their digests and that of the code stand in the file.
        search: attacks sentences.
    """
    code = code_digest([SEARCH, root_of(type(source))])
    asked = (tower.text_digest, prompts.digest, rules.model_dump_json(), source.digest, code)
    path = folder() / f"{sha256(repr(asked).encode())[:32]}.json"
    texts = list(dict.fromkeys(text for group in prompts.prompts for text in group))
    found = _read(path, asked)
    if [sentence.before for sentence in found] == texts and _holds(found, tower, prompts, rules, search):
        return found
    made = tuple(search(texts))
    with suppress(OSError):  # a cache that cannot be written costs time, not the run
        write_atomically(path, Kept(asked=asked, sentences=made).model_dump_json(indent=1).encode())
    return made


def folder() -> Path:
    """Where searches are stored: a part of the user's cache."""
    return user_cache() / "attacked-prompts"


def _read(path: Path, asked: tuple[str, ...]) -> tuple[Attacked, ...]:
    """The sentences of a file that answers what is asked; none of any other."""
    with suppress(OSError, ValueError):
        kept = Kept.model_validate_json(path.read_bytes(), strict=True)
        if kept.asked == asked:
            return kept.sentences
    return ()


def _holds(found: Sequence[Attacked], tower: Backbone, prompts: PromptSet, rules: WordSwap, search: Search) -> bool:
    reader, distance = TextTower(tower), DISTANCES[rules.distance]

    def objective(sentence: Attacked) -> float:
        before, after = reader([sentence.before, sentence.after])
        return float(distance(before, after[None])[0])

    if not all(
        within(s, rules, reader, prompts.class_names) and math.isclose(objective(s), s.objective_after, **TOLERANCE)
        for s in found
    ):
        return False
    looked_at = found if _again.get() else _one_of(found)
    return all(
        new.objective_after <= old.objective_after
        or math.isclose(new.objective_after, old.objective_after, **TOLERANCE)
        for old, new in zip(looked_at, search([s.before for s in looked_at]), strict=True)
    )


def _one_of(found: Sequence[Attacked]) -> Sequence[Attacked]:
    """One sentence, of those that were left as they are if there are any: nobody knows which before it is read."""
    left = [sentence for sentence in found if not sentence.positions] or found
    return [random.SystemRandom().choice(left)] if left else []
