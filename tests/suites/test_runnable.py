"""A reported protocol becomes one of ours, field by field, or says in words why it cannot."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures import prompts as prompts_module
from vlm_gauntlet.fixtures.datasets import dataset, to_tensor
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import template, template_sets
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.reported import (
    Component,
    ReportedProtocol,
    ReportedSwap,
    reported_protocol,
    reported_protocols,
)
from vlm_gauntlet.suites.runnable import protocols_named, reduction_matters, runnable

KNOWN = reported_protocol("mmcoa-pgd-100")


def changed(**fields: object) -> ReportedProtocol:
    return KNOWN.model_copy(update=fields)


def with_component(**fields: object) -> ReportedProtocol:
    return changed(components=(KNOWN.components[0].model_copy(update=fields),))


def test_fields_are_carried_over() -> None:
    (small,) = runnable(KNOWN, "cifar10").protocols
    (large,) = runnable(KNOWN, "dtd").protocols
    assert (small.attack.name, small.threat.eps) == ("pgd", Fraction(1, 255))
    assert small.attack.parameters == {"steps": 100, "step_size": "1"}
    assert (small.evaluation.prompts, small.evaluation.preprocessing) == ("tecoa", "resize-256-crop")
    assert (small.threat.attack_resolution, large.threat.attack_resolution) == ("native", "model")


def test_one_protocol_a_component() -> None:
    apgd = {"steps": 100, "step_size": Fraction(2), "restarts": 1, "random_start": True, "reduction": "sum"}
    both = changed(components=(
        Component(attack="apgd-ce", loss="ce", selection="any-iterate", **apgd),
        Component(attack="apgd-t", loss="dlr-targeted", selection="any-iterate", **apgd),
    ))  # fmt: skip
    assert [p.id for p in runnable(both, "dtd").protocols] == ["mmcoa-pgd-100:apgd-ce", "mmcoa-pgd-100:apgd-t"]


@pytest.mark.parametrize(
    ("reported", "said"),
    [
        (changed(knowledge="unknown", prompts="unknown"), "the source does not say: knowledge, prompts"),
        (with_component(steps="unknown"), "the source does not say: pgd.steps"),
        (changed(modality="text"), "unknown parameter of pgd 'text'"),
        (changed(modality="image", components=reported_protocol("mmcoa-sep-attack").components), "sep-attack: text"),
        (changed(prompts="captions"), "`gauntlet retrieval`"),
        (changed(defect="its code is lost"), "its code is lost"),
        (with_component(random_start="one-sided"), "a random start in [0, eps] is not built"),
        (with_component(attack="cw-pgd", loss="cw"), "the source does not say: cw-pgd.kappa"),
        (changed(quantised=True), "how images became 8 bits"),
        (changed(precision="fp16"), "attacks in fp16"),
        (changed(prompts="learned"), "prompts 'learned'"),
        (changed(preprocessing="squash"), "preprocessing 'squash'"),
        (changed(knowledge="adaptive"), "adaptive"),
        (with_component(attack="bert-attack"), "bert-attack: text"),
        (with_component(attack="apgd-ce"), "reduction: came 'mean'; expected 'sum'"),
    ],
)
def test_obstacles_are_said(reported: ReportedProtocol, said: str) -> None:
    found = runnable(reported, "cifar10")
    assert found.protocols == () and said in " ".join(found.obstacles)


def test_autocast_and_a_mean_loss_are_run_as_reported() -> None:
    (made,) = runnable(changed(precision="amp-fp16"), "cifar10").protocols
    assert made.attack.parameters.items() >= {"precision": "amp-fp16", "reduction": "mean"}.items()
    assert "reduction" not in runnable(KNOWN, "cifar10").protocols[0].attack.parameters
    assert {"ttc-pgd-10-linf-1-255", "tecoa-clean"} <= {
        n for n, r in reported_protocols().items() if runnable(r, "dtd").protocols
    }


AS_CODED = {
    "source": "masked-lm", "index_shift": "as_coded", "stop_words": "case-sensitive", "forbid_class_names": False,
    "split": "spaces", "written": "anything", "combinations": "all", "stop_list": "published",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "attacked", "fields"),
    [
        ("mmcoa-bert-attack", {"norm": "none", "eps": "0", "modality": "text"}, {"name": "bert-attack"}),
        (
            "mmcoa-sep-attack",
            {"norm": "linf", "eps": "1/255", "modality": "both"},
            {"name": "sep-attack", "steps": 100, "step_size": "1"},
        ),
    ],
)
def test_attacks_on_words_become_ours_field_by_field(
    name: str, attacked: dict[str, object], fields: dict[str, object]
) -> None:
    threat = {**attacked, "knowledge": "white-box", "attack_resolution": "native"}
    wanted = Protocol.model_validate({
        "id": name, "title": reported_protocol(name).title, "threat": threat, "attack": {**fields, "text": AS_CODED},
        "evaluation": {"prompts": "tecoa", "preprocessing": "resize-256-crop"},
    })  # fmt: skip
    assert runnable(reported_protocol(name), "cifar10").protocols == (wanted,)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mmcoa-co-attack-100", ["co-attack.step_size", "Enum is compared"]),
        ("mmcoa-co-attack-retrieval", ["`gauntlet retrieval`", "multiplier (eps / 8) or literally"]),
        ("co-attack-issue-3", ["`gauntlet retrieval`", "text.index_shift"]),
        ("sga-bert-attack", ["`gauntlet retrieval`", "text.max_length"]),
        ("sga-bert-attack-transfer", ["`gauntlet retrieval`", "text.max_length"]),
        ("sga-sep-attack", ["`gauntlet retrieval`", "sep-attack.loss"]),
        ("sga-sep-attack-transfer", ["`gauntlet retrieval`", "sep-attack.loss"]),
        ("sga-co-attack", ["`gauntlet retrieval`", "co-attack.steps"]),
        ("sga-co-attack-transfer", ["`gauntlet retrieval`", "co-attack.steps"]),
        ("sga-sga", ["`gauntlet retrieval`", "precision, preprocessing, quantised, text.max_length"]),
        ("sga-sga-transfer", ["`gauntlet retrieval`", "precision, preprocessing, quantised, text.max_length"]),
    ],
)
def test_other_attacks_on_words_say_what_is_in_the_way(name: str, said: list[str]) -> None:
    found = runnable(reported_protocol(name), "cifar10")
    assert found.protocols == ()
    assert [words for words in said if words not in "; ".join(found.obstacles)] == []


def test_a_start_above_the_image_is_run_as_reported() -> None:
    """Without its defect, and with a step size, MMCoA's Co-Attack would start in [0, eps]; PGD here cannot."""
    reported = reported_protocol("mmcoa-co-attack-100")
    stated = reported.components[0].model_copy(update={"step_size": Fraction(1, 80), "selection": "final"})
    stated = stated.model_copy(update={"restarts": 1})
    (made,) = runnable(reported.model_copy(update={"defect": "", "components": (stated,)}), "cifar10").protocols
    assert made.attack.parameters.items() >= {"random_start": "one-sided", "step_size": "1/80", "steps": 100}.items()


def test_no_reported_attack_on_words_is_forgotten_above() -> None:
    assert sum(r.attacks_text for r in reported_protocols().values()) == 13


def test_a_swap_is_reported_in_the_fields_of_ours() -> None:
    assert ReportedSwap.model_fields.keys() == WordSwap.model_fields.keys()


def test_cw_of_this_field_is_pgd_on_a_margin() -> None:
    (made,) = runnable(with_component(attack="cw-pgd", loss="cw", kappa=Fraction(50)), "dtd").protocols
    assert (made.attack.name, made.attack.parameters) == ("cw-pgd", {"steps": 100, "step_size": "1"})
    assert not reduction_matters(KNOWN, KNOWN.components[0].model_copy(update={"attack": "cw-pgd"}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tga-zsr-cw-linf-1-255", "the source does not say: cw-pgd.steps, cw-pgd.step_size"),
        ("laat-cw-30", "cw-pgd.loss, cw-pgd.kappa"),
        ("cola-cw-linf-1-255", "cw-pgd.steps"),
        ("cola-cw-linf-1-255-white-box", "cw-pgd.steps"),
        ("cola-tuned-cw-linf-1-255", "knowledge"),
        ("doc-cw-linf-4-255", "cw-pgd.steps"),
        ("ucat-cw-linf-1-255", "cw-pgd.steps"),
    ],
)
def test_what_keeps_each_reported_cw_from_running(name: str, said: str) -> None:
    assert said in "; ".join(runnable(reported_protocol(name), "stl10").obstacles)


def test_no_reported_cw_is_forgotten_above() -> None:
    assert sum(c.attack == "cw-pgd" for r in reported_protocols().values() for c in r.components) == 7


def test_every_reported_protocol_runs_or_says_why() -> None:
    for reported in reported_protocols().values():
        found = runnable(reported, "dtd")
        assert bool(found.protocols) != bool(found.obstacles), reported.id


def test_only_sign_steps_in_full_precision_ignore_the_reduction() -> None:
    sep = reported_protocol("mmcoa-sep-attack")
    assert not reduction_matters(KNOWN, KNOWN.components[0]) and not reduction_matters(sep, sep.components[0])
    assert reduction_matters(changed(precision="amp-fp16"), KNOWN.components[0])
    assert reduction_matters(changed(norm="l2"), KNOWN.components[0])
    assert reduction_matters(KNOWN, Component(attack="apgd-ce"))


def test_names_lead_to_protocols() -> None:
    assert protocols_named("clean", "digits") == [protocol("clean")]
    with pytest.raises(UnavailableError, match="Enum is compared"):
        protocols_named("mmcoa-co-attack-100", "cifar10")
    with pytest.raises(GauntletError, match="unknown protocol"):
        protocols_named("mmcoa-pgd-1000", "cifar10")


def test_templates_of_papers() -> None:
    assert template("tecoa", "oxford_pets") == "A photo of a {}, a type of pet."
    assert template("tecoa", "cifar10") == "This is a photo of a {}"
    assert template("ttc", "cifar10") == "This is a photo of a {}."
    digits = dataset("digits")
    assert digits.prompted("dataset") == digits.prompts
    assert digits.prompted("generic").prompts[3] == (f"This is a photo of a {digits.class_names[3]}",)
    with pytest.raises(GauntletError, match="unknown template set"):
        template("tekoa", "cifar10")


def test_the_sentences_of_a_set_on_the_hub_are_the_papers_ensemble() -> None:
    fare = reported_protocol("fare-clean")
    (own,) = runnable(fare, "cifar10").protocols
    assert own.evaluation.prompts == "dataset" and runnable(fare, "caltech101").protocols, "VTAB's is on the hub"
    whole = fare.model_copy(update={"samples": "whole test split"})
    for unpinned in (runnable(fare, "imagenet_r"), runnable(whole, "caltech101")):
        assert not unpinned.protocols and "no commit of" in unpinned.obstacles[0]
    assert template("tpt", "dtd") == "a photo of a {}."


def test_bad_templates_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "templates.toml").write_text('[x]\ndefault = "no place"\n')
    monkeypatch.setattr(prompts_module, "__file__", str(tmp_path / "prompts.py"))
    with pytest.raises(GauntletError, match="without"):
        template_sets.__wrapped__()


def test_the_wide_resize_sees_less_of_the_picture() -> None:
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("white", (4, 4, 60, 60))
    own, wide = (to_tensor(picture, 32, how) for how in ("resize-crop", "resize-256-crop"))
    assert own.shape == wide.shape == (3, 32, 32)
    assert own[:, 0].max() < 0.2 < 0.5 < wide[:, 16, 0].min()
    assert torch.equal(to_tensor(picture, 64), to_tensor(picture, 64, "resize-crop"))
