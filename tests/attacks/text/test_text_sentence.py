"""Sentences come apart and together; what counts as one word; class names that were not there before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.attacks.text.sentence import Sentence, injected_names, is_one_word
from vlm_gauntlet.attacks.text.stop_words import PUBLISHED, STOP_WORDS, is_stop_word


@pytest.mark.parametrize("split", ["punctuation-apart", "spaces"])
@given(text=st.text())
def test_a_sentence_comes_together_again(split: str, text: str) -> None:
    assert Sentence.read(text, split).text == text


def test_words_are_without_punctuation() -> None:
    sentence = Sentence.read('"a photo of a T-shirt, isn\'t it?"')
    assert sentence.words == ("a", "photo", "of", "a", "T-shirt", "isn't", "it")
    assert sentence.swapped(4, "dress").text == '"a photo of a dress, isn\'t it?"'


def test_as_coded_words_stand_between_spaces_and_their_punctuation_goes_with_them() -> None:
    sentence = Sentence.read('a  photo of "a ship".', "spaces")
    assert sentence.words == ("a", "", "photo", "of", '"a', 'ship".')
    assert sentence.swapped(5, "boat").text == 'a  photo of "a boat'
    assert Sentence.read("", "spaces").words == ("",)


@pytest.mark.parametrize("candidate", ["dog", "d og", "do g", "dőg", "hot-dog"])
def test_one_word(candidate: str) -> None:
    assert is_one_word(candidate, "dog")


@pytest.mark.parametrize("candidate", ["", " ", "hot dog", "d o g", "d  og", " dog", "dog\n", "big d og"])
def test_more_than_one_word_is_none(candidate: str) -> None:
    assert not is_one_word(candidate, "dog")


def test_class_names_are_found_as_words() -> None:
    names = ["shirt", "t-shirt", "ankle boot", "dress"]
    assert injected_names("a t-shirt.", "a t- shirt.", names) == ["shirt"]
    assert injected_names("a picture of a bag", "a Dress of a bag", names) == ["dress"]
    assert injected_names("a bag", "two dresses", names) == ["dress"]
    assert injected_names("a leather boot", "a ankle boot", names) == ["ankle boot"]
    assert injected_names("a shirt", "a shirtless", names) == []
    assert injected_names("a shirt", "a shirt", names) == []


def test_stop_words_and_their_case() -> None:
    assert is_stop_word("this", "case-sensitive") and not is_stop_word("This", "case-sensitive")
    assert is_stop_word("This", "case-folded")
    assert not is_stop_word("photo", "case-folded")


def test_the_published_list_is_another() -> None:
    """292 entries (sheet, C.2): four words that ours lacks, signs and `a the`; 29 of ours are missing."""
    assert len(PUBLISHED) == 292 and len(STOP_WORDS - PUBLISHED) == 29
    assert {w for w in PUBLISHED - STOP_WORDS if w.isalpha()} == {"empty", "hundred", "namely", "used"}
    for word, listed in {
        "used": "published",
        ".": "published",
        "a the": "published",
        "be": "ours",
        "very": "ours",
    }.items():
        other = {"ours": "published", "published": "ours"}[listed]
        assert is_stop_word(word, "case-sensitive", listed) and not is_stop_word(word, "case-sensitive", other)
    assert all(is_stop_word(w, "case-sensitive", k) for w in ("a", "this", "some", "b") for k in ("ours", "published"))
