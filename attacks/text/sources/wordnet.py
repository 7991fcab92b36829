"""Synonyms of a word from WordNet's own data files, read as they lie on disk.

Source: Fellbaum 1998; file format wndb(5WN), the same in 3.0 and 3.1. `index.<pos>` gives the byte offsets of a lemma's
synonym sets in `data.<pos>`. Inflected forms are not reduced to lemmas.
"""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.files import sha256

FOLDER = "GAUNTLET_WORDNET"
PARTS_OF_SPEECH = ("noun", "adj", "verb", "adv")


class WordNet:
    """Lemmas that share a synonym set with the word, the most frequent sense of each part of speech first.

    Args:
        folder: where `index.noun`, `data.noun` and their neighbours lie; default: the environment's GAUNTLET_WORDNET.

    Raises:
        UnavailableError: no folder, or files are missing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        given = folder or os.environ.get(FOLDER)
        names = [f"{kind}.{pos}" for pos in PARTS_OF_SPEECH for kind in ("index", "data")]
        missing = [name for name in names if given is None or not (Path(given) / name).is_file()]
        if given is None or missing:
            raise UnavailableError(
                f"WordNet without {', '.join(missing)}", expected="the data files of WordNet 3.0 or 3.1",
                where=f"{FOLDER}={given or '(unset)'}", fix=f"install WordNet and point {FOLDER} at its `dict` folder",
            )  # fmt: skip
        self._files = {name: (Path(given) / name).read_bytes() for name in names}
        self.digest = sha256("".join(sha256(data) for data in self._files.values()).encode())

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        """See Source. Lemmas of several words are left out: one word stands in place of one."""
        word = words[position].lower()
        lemmas = dict.fromkeys(lemma for pos in PARTS_OF_SPEECH for lemma in self._synonyms(word, pos))
        return [lemma for lemma in lemmas if lemma.lower() != word and "_" not in lemma]

    @cached_property
    def _index(self) -> dict[tuple[str, str], tuple[int, ...]]:
        found = {}
        for pos in PARTS_OF_SPEECH:
            for line in self._files[f"index.{pos}"].decode("latin-1").splitlines():
                if not line.startswith(" "):  # the licence
                    fields = line.split()
                    found[fields[0], pos] = tuple(map(int, fields[-int(fields[2]) :]))
        return found

    def _synonyms(self, word: str, pos: str) -> Iterator[str]:
        data = self._files[f"data.{pos}"]
        for offset in self._index.get((word, pos), ()):
            fields = data[offset : data.index(b"\n", offset)].decode("latin-1").split()
            count = int(fields[3], 16)
            yield from (
                lemma.partition("(")[0] for lemma in fields[4 : 4 + 2 * count : 2]
            )  # (p): where an adjective goes
