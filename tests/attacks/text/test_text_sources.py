"""Candidates of each source that runs without a language model."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.attacks.text.sentence import is_one_word
from vlm_gauntlet.attacks.text.sources.characters import Characters
from vlm_gauntlet.attacks.text.sources.wordnet import FOLDER, WordNet
from vlm_gauntlet.fixtures.errors import UnavailableError

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCZ'-", min_size=1, max_size=12)


def distance(one: str, two: str) -> int:
    """Edits between two words, a swap of neighbours counting as one (optimal string alignment)."""
    table = {(i, 0): i for i in range(len(one) + 1)} | {(0, j): j for j in range(len(two) + 1)}
    for i in range(1, len(one) + 1):
        for j in range(1, len(two) + 1):
            same = one[i - 1] == two[j - 1]
            best = [table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (not same)]
            if i > 1 and j > 1 and (one[i - 1], one[i - 2]) == (two[j - 2], two[j - 1]):
                best.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(best)
    return table[len(one), len(two)]


@given(WORDS)
def test_every_misspelling_is_one_edit_of_one_word(word: str) -> None:
    edits = Characters()([word], 0)
    assert len(set(edits)) == len(edits) and word not in edits
    assert all(distance(word, edit) == 1 and is_one_word(edit, word) for edit in edits)


def test_the_first_edits_are_one_of_each_kind_from_the_middle() -> None:
    edits = Characters()(["this", "house"], 1)
    assert edits[:4] == ["ho use", "hose", "huose", "hoυse"]
    assert not {"ouse", "hous", "ohuse", "houes"} & set(edits)  # first and last characters stay where they are


EXCERPT = {
    "noun": {"dog": ["dog 0 domestic_dog 0 hound 0", "dog 0 cad 0"], "hound": ["dog 0 domestic_dog 0 hound 0"]},
    "adj": {"big": ["large(a) 0 big 0"]},
    "verb": {"dog": ["chase 0 dog 0 tag 0 cad 0"]},
    "adv": {},
}


@pytest.fixture
def excerpt(tmp_path: Path) -> Path:
    """A few synonym sets, in the format of wndb(5WN)."""
    for pos, lemmas in EXCERPT.items():
        data, offsets = b"  1 a licence\n", {}
        for text in dict.fromkeys(s for sets in lemmas.values() for s in sets):
            offsets[text] = len(data)
            data += f"{len(data):08d} 05 n {len(text.split()) // 2:02x} {text} 001 @ 00000000 n 0000 | gloss\n".encode()
        index = "  1 a licence\n"
        for lemma, sets in lemmas.items():
            places = " ".join(f"{offsets[s]:08d}" for s in sets)
            index += f"{lemma} n {len(sets)} 1 @ {len(sets)} 0 {places}  \n"
        (tmp_path / f"data.{pos}").write_bytes(data)
        (tmp_path / f"index.{pos}").write_text(index)
    return tmp_path


def test_synonyms_of_every_part_of_speech_without_phrases(excerpt: Path) -> None:
    wordnet = WordNet(excerpt)
    assert wordnet(["a", "Dog"], 1) == ["hound", "cad", "chase", "tag"]
    assert wordnet(["big"], 0) == ["large"]
    assert wordnet(["unheard"], 0) == []


def test_wordnet_says_what_it_read(excerpt: Path) -> None:
    before = WordNet(excerpt).digest
    (excerpt / "data.adv").write_bytes(b"  1 another licence\n")
    assert WordNet(excerpt).digest != before


def test_wordnet_that_is_not_here_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    with pytest.raises(UnavailableError, match="unset"):
        WordNet()
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(UnavailableError, match="without index"):
        WordNet()
