"""Sentences come apart and together; what counts as one word; class names that were not there before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.attacks.text.sentence import Sentence, injected_names, is_one_word
from vlm_gauntlet.attacks.text.stop_words import is_stop_word


@given(st.text())
def test_a_sentence_comes_together_again(text: str) -> None:
    assert Sentence.read(text).text == text


def test_words_are_without_punctuation() -> None:
    sentence = Sentence.read('"a photo of a T-shirt, isn\'t it?"')
    assert sentence.words == ("a", "photo", "of", "a", "T-shirt", "isn't", "it")
    assert sentence.swapped(4, "dress").text == '"a photo of a dress, isn\'t it?"'


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
