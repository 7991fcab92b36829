"""Cells that attack text: which tower the attacker reads, what is scored, and what cannot be run."""

from types import SimpleNamespace

import pytest
import torch

from vlm_gauntlet.attacks.protocols import protocol, protocols
from vlm_gauntlet.attacks.registry import build, choice
from vlm_gauntlet.attacks.text import bert_attack
from vlm_gauntlet.attacks.text.prompts import attacked_prompts
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites import cells
from vlm_gauntlet.suites.batch import Evaluation, run_batch
from vlm_gauntlet.suites.indicators import indicators_of
from vlm_gauntlet.suites.journal import BatchResult

CHARACTERS = protocol("text-char-1-white-box")
RULES = WordSwap(source="characters")


@pytest.fixture
def batch(images: torch.Tensor) -> Batch:
    return Batch(tuple("abcdef"), images, torch.tensor([0, 1, 2, 3, 4, 0]))


def run(name: str, backbone: Backbone, prompts: PromptSet, batch: Batch, asked: Protocol) -> BatchResult:
    undefended = method("undefended").build(backbone)
    return run_batch(Evaluation(method(name).build(backbone), undefended, prompts, asked, seed=0), batch)


def test_clean_images_meet_the_attacked_prompts(tiny_backbone: Backbone, prompts: PromptSet, batch: Batch) -> None:
    result = run("undefended", tiny_backbone, prompts, batch, CHARACTERS)
    text = attacked_prompts(tiny_backbone, prompts, RULES)
    with torch.no_grad():
        right = tiny_backbone(batch.images, text.prompts).argmax(1) == batch.labels
        clean = tiny_backbone(batch.images, prompts).argmax(1) == batch.labels
    assert [s.attacked for s in result.samples] == right.int().tolist()
    assert [s.clean for s in result.samples] == clean.int().tolist()
    assert result.notes == text.notes
    names = {i.name: i.fired for i in indicators_of(CHARACTERS, [result], draws=1)}
    assert names["unread-text"] is False and names["out-of-ball"] is False and "zero-gradient" not in names


def test_images_and_text_are_attacked_apart(tiny_backbone: Backbone, prompts: PromptSet, batch: Batch) -> None:
    both = run("undefended", tiny_backbone, prompts, batch, protocol("sep-char-1-white-box-linf-4-255"))
    pgd = run("undefended", tiny_backbone, prompts, batch, protocol("pgd-10-white-box-linf-4-255"))
    series = ("first_loss", "last_loss", "gradient_norm", "success")
    assert all(both.telemetry[name] == pgd.telemetry[name] for name in series)  # it sees the clean prompts
    assert both.notes == attacked_prompts(tiny_backbone, prompts, RULES).notes
    assert both.attack_cost.backward == pgd.attack_cost.backward


def test_a_defence_around_the_tower_has_no_white_box_for_text(
    tiny_backbone: Backbone, prompts: PromptSet, batch: Batch
) -> None:
    with pytest.raises(GauntletError, match="more than a tower"):
        run("tte", tiny_backbone, prompts, batch, CHARACTERS)
    for name in ("text-char-1-transfer", "text-char-1-adaptive"):  # there is no tuned tower beneath: the same words
        moved = run("tte", tiny_backbone, prompts, batch, protocol(name))
        assert moved.notes == run("undefended", tiny_backbone, prompts, batch, CHARACTERS).notes


def test_a_joint_attack_on_the_image_meets_the_attacked_prompts(
    tiny_backbone: Backbone, prompts: PromptSet, batch: Batch
) -> None:
    joint = protocol("joint-char-1-adaptive-linf-4-255")
    met = run("undefended", tiny_backbone, prompts, batch, joint)
    text = attacked_prompts(tiny_backbone, prompts, RULES)
    alone = protocol("pgd-20-adaptive-linf-4-255")
    under_attacked, under_clean = (
        run("undefended", tiny_backbone, asked, batch, alone).telemetry["last_loss"]
        for asked in (text.prompts, prompts)
    )
    apart = run("undefended", tiny_backbone, prompts, batch, apart_from(joint))
    assert met.telemetry["last_loss"] == under_attacked != under_clean
    assert apart.telemetry["last_loss"] == under_clean


def apart_from(joint: Protocol) -> Protocol:
    """The same attack with the image under the clean prompts."""
    return joint.model_copy(update={"attack": choice("sep-attack", joint.attack.parameters, where="test")})


class Retold(Defence):
    """Reads class names alone, as learned prompts do."""

    def forward(self, images: torch.Tensor, prompts: PromptSet) -> torch.Tensor:
        return self.backbone(images, PromptSet.from_templates(prompts.class_names, ["{}"]))


class Turned(Retold):
    """A fine-tuned tower whose text features differ from the original's."""

    @property
    def tuned_backbone(self) -> Backbone:
        twin = self.backbone.tuned({})
        twin.encode_text = lambda sentences: self.backbone.encode_text([s[::-1] for s in sentences])  # type: ignore[method-assign]
        return twin


def test_prompts_that_nobody_reads_are_noticed(tiny_backbone: Backbone, prompts: PromptSet, batch: Batch) -> None:
    asked = protocol("text-char-1-transfer")
    result = run_batch(
        Evaluation(Retold(tiny_backbone), method("undefended").build(tiny_backbone), prompts, asked, 0), batch
    )
    assert {i.name for i in indicators_of(asked, [result], draws=1) if i.fired} == {"unread-text"}


def test_a_defence_on_a_tuned_tower_is_attacked_through_that_tower(
    tiny_backbone: Backbone, prompts: PromptSet, batch: Batch
) -> None:
    tuned = Turned(tiny_backbone).tuned_backbone
    above = method("tte").defence.over(tuned, tiny_backbone, {})
    asked = protocol("text-char-1-adaptive")
    result = run_batch(Evaluation(above, method("undefended").build(tiny_backbone), prompts, asked, 0), batch)
    assert result.notes == attacked_prompts(tuned, prompts, RULES).notes
    assert result.notes != attacked_prompts(tiny_backbone, prompts, RULES).notes


def test_white_box_reads_the_defences_own_tower(tiny_backbone: Backbone, prompts: PromptSet, batch: Batch) -> None:
    undefended = method("undefended").build(tiny_backbone)
    notes = [
        run_batch(Evaluation(Turned(tiny_backbone), undefended, prompts, protocol(p), 0), batch).notes
        for p in ("text-char-1-white-box", "text-char-1-transfer")
    ]
    assert notes[0] != notes[1]
    assert notes[1] == attacked_prompts(tiny_backbone, prompts, RULES).notes


def test_the_data_behind_the_words_is_part_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cells.plan(["undefended"], "miniclip-vit", ["digits"], ["text-char-1-transfer"], limit=2)[0]
    cell = asked.load().cell
    assert cell.text_source_digest == ""  # misspellings come from the code, which has a digest of its own
    monkeypatch.setattr(bert_attack, "build_source", lambda rules: SimpleNamespace(digest=f"words of {rules.source}"))
    other = asked.load().cell
    assert other.text_source_digest == "words of characters" and other.key != cell.key


def test_text_protocols_say_what_they_attack() -> None:
    for name, asked in protocols().items():
        both = name.startswith(("sep-", "joint-", "co-attack-", "sga-", "dra-"))
        reads = "text" in asked.attack.parameters
        assert reads == (both or name.startswith("text-"))
        assert (asked.threat.modality == "both") == both
        assert not reads or not asked.threat.harmless


@pytest.mark.parametrize(
    ("name", "parameters", "threat", "message"),
    [
        ("bert-attack", {}, {}, "text"),
        ("sga", {}, {"modality": "both", "norm": "linf"}, "sga without text"),
        ("pgd", {}, {}, "pgd with modality 'text'"),
        ("pgd", {"text": {"source": "characters"}}, {}, "unknown parameter of pgd 'text'"),
        ("bert-attack", {"text": {"source": "characters"}}, {"modality": "image"}, "bert-attack with modality 'image'"),
        ("bert-attack", {"text": {"source": "characters"}}, {"norm": "linf"}, "norm of bert-attack"),
        ("bert-attack", {"text": {"source": "masked-lm"}}, {}, "index_shift"),
        ("bert-attack", {"text": {"source": "characters", "index_shift": "corrected"}}, {}, "index_shift"),
    ],
)
def test_a_protocol_that_contradicts_itself_is_refused(
    name: str, parameters: dict[str, object], threat: dict[str, object], message: str
) -> None:
    with pytest.raises(GauntletError, match=message):
        asked = CHARACTERS.model_copy(
            update={
                "attack": choice(name, parameters, where="test"),
                "threat": CHARACTERS.threat.model_copy(update=threat),
            }
        )
        build(asked)
