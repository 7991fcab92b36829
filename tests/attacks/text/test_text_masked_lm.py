"""The masked language model: at which token its predictions are read, pieces, and the real classes of transformers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.text.prompts import attack_prompts
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import MASK, attack_sentence
from vlm_gauntlet.attacks.text.sources.masked_lm import MaskedLM
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAIRS = [
    ("red", "crimson"), ("dog", "hound"), ("ball", "sphere"), ("pull", "push"), ("##over", "##down"), (".", "!")
]  # fmt: skip
VOCABULARY = SPECIAL + [word for pair in PAIRS for word in pair]


class Tokens:
    """A word is its own piece; `pullover` is two, and a full stop is one of its own."""

    cls_token_id, sep_token_id = 2, 3

    def tokenize(self, word: str) -> list[str]:
        if word.endswith(".") and word != ".":
            return [*self.tokenize(word[:-1]), "."]
        return ["pull", "##over"] if word == "pullover" else [word if word in VOCABULARY else "[UNK]"]

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [VOCABULARY.index(t) for t in tokens]

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [VOCABULARY[i] for i in ids]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return " ".join(tokens).replace(" ##", "")

    def get_vocab(self) -> dict[str, int]:
        return {t: i for i, t in enumerate(VOCABULARY)}


@dataclass
class Echo:
    """As a trained model does on unmasked text: predicts the token itself, then its neighbour in meaning."""

    device: str = "cpu"

    def __call__(self, ids: Tensor) -> SimpleNamespace:
        other = torch.where(ids % 2 == 1, ids + 1, ids - 1)  # pairs begin at 5, an odd number
        one_hot = torch.nn.functional.one_hot
        size = len(VOCABULARY) + 1
        return SimpleNamespace(logits=9.0 * one_hot(ids, size) + 6.0 * one_hot(other, size))

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": torch.ones(2)}


def echo(index_shift: str, **fields: int | str) -> MaskedLM:
    return MaskedLM(Echo(), Tokens(), index_shift=index_shift, **{"top": 2, "max_length": 30, **fields})


def test_the_published_index_reads_the_word_before() -> None:
    words = ("red", "dog", "ball")
    assert echo("corrected")(words, 1) == ["hound"]
    assert echo("as_coded")(words, 1) == ["red", "crimson"]
    assert echo("corrected")(words, 0) == ["crimson"]
    assert echo("as_coded")(words, 0) == []  # what stands at [CLS] is no word


def test_a_word_of_two_pieces_gets_combinations_of_them() -> None:
    found = echo("corrected")(("red", "pullover"), 1)
    assert set(found) <= {"pulldown", "pushover", "pushdown"} and "pushdown" in found


def test_as_coded_phrases_punctuation_and_special_tokens_are_written_in() -> None:
    """`##` alone is left out there. Read one token early, `red` is offered what stands at [CLS], and its neighbour."""
    words, anything = (echo("as_coded", written=w) for w in ("words", "anything"))
    assert (words(("red", "dog"), 0), anything(("red", "dog"), 0)) == ([], ["[CLS]", "[UNK]"])
    words, anything = (echo("corrected", written=w) for w in ("words", "anything"))
    assert (words(("red", "ball."), 1), anything(("red", "ball."), 1)) == (
        [],
        ["ball .", "ball !", "sphere .", "sphere !"],
    )
    pieces = anything(("red", "pullover"), 1)
    assert pieces == ["pulldown", "pushover", "pushdown"]
    assert anything(("##over", "dog"), 0) == [] and anything((".", "dog"), 0) == ["!"]


def test_the_first_24_combinations_of_the_best_4_of_each_piece_are_looked_at() -> None:
    """Of 4 x 4 x 4: 16 that begin with the first piece's best token, and 8 with its second."""
    found = sorted(echo("corrected")._combined([[5, 6, 7, 8]] * 3))
    assert [c[0] for c in found] == [5] * 16 + [6] * 8
    assert found[:5] == [[5, 5, 5], [5, 5, 6], [5, 5, 7], [5, 5, 8], [5, 6, 5]] and found[-1] == [6, 6, 8]


@pytest.mark.parametrize(("combinations", "after"), [("cut", "red pushover"), ("all", "red pushdown")])
def test_combinations_are_cut_to_the_candidates_or_all_tried(combinations: str, after: str) -> None:
    """In order pulldown, pushover, pushdown, of which the third moves the sentence furthest."""

    class Reader:
        def __call__(self, sentences: Sequence[str]) -> Tensor:
            weights = {"pulldown": 0.1, "pushover": 0.2, "pushdown": 0.3, MASK: 0.4}
            angles = torch.tensor([sum(weights.get(w, 0.0) for w in s.split()[1:]) for s in sentences]).double()
            return torch.stack([angles.cos(), angles.sin()], dim=1)

        def fits(self, sentence: str) -> bool:
            return True

    swap = rules().model_copy(update={"candidates": 2, "combinations": combinations})
    assert attack_sentence("red pullover", Reader(), echo("corrected"), swap).after == after


def test_improbable_tokens_are_pruned() -> None:
    assert echo("corrected", top=len(VOCABULARY))(("red", "dog"), 1) == ["hound"]  # the others have a logit of 0


def test_words_beyond_the_length_are_left_alone() -> None:
    words = ("red", "dog", "ball")
    assert echo("corrected", max_length=5)(words, 2) == ["sphere"]
    assert echo("corrected", max_length=4)(words, 2) == []
    assert echo("corrected", max_length=4)(words, 1) == ["hound"]


def test_the_class_of_the_published_model(tmp_path: Path, tiny_backbone: Backbone, prompts: PromptSet) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")
    vocabulary = tmp_path / "vocab.txt"
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary.write_text("\n".join([*VOCABULARY, *letters]))
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("pullover") == ["pull", "##over"] and tokenizer.tokenize("dog") == ["dog"]
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertForMaskedLM(config).eval()
    made = {s: MaskedLM(model, tokenizer, index_shift=s, top=40, max_length=30) for s in ("as_coded", "corrected")}
    words = ("Red", "dog", "pullover", "zoo")
    for source in made.values():
        for position, word in enumerate(words):
            found = source(words, position)
            assert found == source(words, position)
            assert all(c.isalnum() and c != word.lower() for c in found)
    ids = torch.tensor([tokenizer(" ".join(words))["input_ids"]])
    for shift, place in (("as_coded", 1), ("corrected", 2)):  # [CLS] red dog ...
        top = model(ids).logits[0, place].topk(40)
        tokens = tokenizer.convert_ids_to_tokens([i for v, i in zip(*top, strict=True) if v >= 0.3])
        assert made[shift](words, 1) == [t for t in tokens if t.isalnum() and t != "dog"]
    assert made["as_coded"].digest == made["corrected"].digest != echo("as_coded").digest
    attacked = attack_prompts(tiny_backbone, prompts, rules("as_coded"), made["as_coded"])
    assert attacked.source_digest == made["as_coded"].digest
    assert any(s.positions for s in attacked.sentences)


def rules(index_shift: str = "corrected") -> WordSwap:
    return WordSwap(source="masked-lm", index_shift=index_shift)


def test_without_transformers_the_cell_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnavailableError, match=r"pip install 'vlm-gauntlet\[text\]'"):
        build_source(rules())


def test_without_weights_the_cell_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `text` is not installed")

    def absent(name: str, **fields: object) -> None:
        assert fields == {"local_files_only": True, "use_safetensors": True}
        raise OSError(f"{name} is not in the cache")

    monkeypatch.setattr(transformers.BertForMaskedLM, "from_pretrained", absent)
    with pytest.raises(UnavailableError, match="bert-base-uncased is not in the cache"):
        build_source(rules())
