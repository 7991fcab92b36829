"""Class prompts attacked as a whole, on a real text tower."""

import torch

from vlm_gauntlet.attacks.text.prompts import attack_prompts, attacked_prompts
from vlm_gauntlet.attacks.text.reader import TextTower
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.sources.characters import Characters
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

RULES = WordSwap(source="characters")


def test_every_sentence_of_every_class_changes_by_one_word(tiny_backbone: Backbone) -> None:
    clean = PromptSet.from_templates(["cat", "dog", "ship"], ["a photo of a {}.", "the {}, small."])
    found = attack_prompts(tiny_backbone, clean, RULES, Characters())
    assert found.prompts.class_names == clean.class_names
    assert found.prompts.digest != clean.digest
    texts = [t for group in found.prompts.prompts for t in group]
    assert [len(group) for group in found.prompts.prompts] == [2, 2, 2]
    assert [s.after for s in found.sentences] == texts and all(len(s.positions) == 1 for s in found.sentences)
    tokens = tiny_backbone.tokenize(texts)
    assert tokens.shape[1] == 16 and (tokens[:, -1] == 0).all()
    assert "6 of 6 sentences changed" in found.notes[0] and found.prompts.digest[:16] in found.notes[0]


def test_a_sentence_is_attacked_alike_in_any_company(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    whole = attack_prompts(tiny_backbone, prompts, RULES, Characters()).prompts
    for i in range(len(prompts) - 1):
        part = PromptSet(prompts.class_names[i : i + 2], prompts.prompts[i : i + 2])
        assert attack_prompts(tiny_backbone, part, RULES, Characters()).prompts.prompts == whole.prompts[i : i + 2]


def test_it_is_made_once_for_a_tower_prompts_and_rules(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    first = attacked_prompts(tiny_backbone, prompts, RULES)
    assert attacked_prompts(tiny_backbone, prompts, RULES) is first
    assert attacked_prompts(tiny_backbone.tuned({}), prompts, RULES) is not first
    wider = attacked_prompts(tiny_backbone, prompts, RULES.model_copy(update={"budget": 2}))
    assert {2} <= {len(s.positions) for s in wider.sentences} <= {1, 2}


def test_the_attack_leaves_no_trace_in_the_tower(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_backbone.state_dict().items()}
    attack_prompts(tiny_backbone, prompts, RULES, Characters())
    after = tiny_backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_a_tower_reads_unit_features_and_knows_its_length(tiny_backbone: Backbone) -> None:
    reader = TextTower(tiny_backbone)
    features = reader(["a dog", "two words"])
    assert features.dtype == torch.float64
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2).double())
    assert reader.fits("a " * 13) and not reader.fits("a " * 14)  # start, end and one place to spare of 16
