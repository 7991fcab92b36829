"""A claim meets outcomes: only the same protocol counts, and each verdict has its reason."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from vlm_gauntlet.attacks.protocols import varied
from vlm_gauntlet.attacks.registry import choice
from vlm_gauntlet.fixtures.protocols import AttackChoice, Protocol
from vlm_gauntlet.fixtures.records import Cell, Outcome
from vlm_gauntlet.fixtures.reported import Component, readings, reported_protocol
from vlm_gauntlet.leaderboard.comparison import Comparison, SeedSpread, two_sample
from vlm_gauntlet.leaderboard.matching import against, match
from vlm_gauntlet.leaderboard.trainings import spread
from vlm_gauntlet.leaderboard.verdicts import Verdict, explained_by, judge, verdicts
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.suites.runnable import runnable

from .factory import fired, outcome

CLIP = "open_clip:ViT-B-32-quickgelu/openai"


def claim(value: str = "40.00", protocol: str = "mmcoa-pgd-100", **more: object) -> Claim:
    fields: dict[str, object] = {
        "method": "undefended", "source": "mmcoa", "table": "Table X", "row": "CLIP", "column": "C10", "value": value,
        "backbone": "ViT-B/32", "trained_on": "none", "setting": "zero-shot", "dataset": "cifar10", "n": 5000,
        "protocol": protocol, "metric": "accuracy", "tag": "paper",
    }  # fmt: skip
    return Claim(**(fields | more))  # type: ignore[arg-type]


def run(right: int, n: int, *, of: Claim, protocol: Protocol | None = None, limit: int = 0, **cell: object) -> Outcome:
    """An outcome that the claim's own protocol gave, unless told otherwise."""
    own = runnable(reported_protocol(of.protocol), of.dataset).protocols[0]
    made = outcome("1" * right + "0" * (n - right), method=of.method, backbone=CLIP, dataset=of.dataset)
    changed = {"protocol": protocol or own, "limit": limit or n, **cell}
    fresh = Cell.model_validate({**made.cell.model_dump(), **changed})
    return made.model_copy(update={"cell": fresh, "key": fresh.key})


def one(of: Claim, *outcomes: Outcome) -> Verdict:
    return verdicts([of], list(outcomes))[of.id]


@pytest.mark.parametrize(
    ("right", "n", "word"),
    [(1850, 5000, "below claim"), (2150, 5000, "above claim"), (2010, 5000, "reproduced"), (74, 200, "inconclusive")],
)
def test_the_words(right: int, n: int, word: str) -> None:
    """A drop of three points is caught at n = 5000; at n = 200 it is neither red nor green."""
    found = one(claim(), run(right, n, of=claim()))
    assert found.word == word
    assert found.comparison is not None and found.q is not None and found.observed is not None
    assert "points" in found.reason and found.reason.endswith(("?", "."))


@pytest.mark.parametrize(("q", "equivalent", "word"), [
    (0.001, True, "reproduced"), (0.5, True, "reproduced"), (0.001, False, "below claim"), (0.5, False, "inconclusive"),
])  # fmt: skip
def test_within_the_margin_wins(q: float, equivalent: bool, word: str) -> None:
    """One point below with samples without end: the same result for all purposes; the reason says what is proven."""
    small = Comparison(-0.01, -0.012, -0.008, 0.04, equivalent, 0.002, "a test")
    found = judge(Verdict("c", "inconclusive", "", comparison=small), q)
    assert found.word == word
    assert ("beyond chance" in found.reason) == (word == "reproduced" and q < 0.05)


@pytest.mark.parametrize(
    ("drop", "most", "least"), [(0.0, 1.0, 0.99), (0.01, 1.0, 0.99), (0.03, 0.05, 0.0), (0.05, 0.0, 0.0)]
)
def test_how_often_a_drop_counts_as_reproduced(drop: float, most: float, least: float) -> None:
    """Size at the margin, power within it; what is not reproduced at these n is below the claim, never above."""
    draws, runs, n = np.random.default_rng(5), 300, 40000
    pairs = zip(draws.binomial(n, 0.4 - drop, runs), draws.binomial(n, 0.4, runs), strict=True)
    tested = [two_sample(k, n, c / n, n) for k, c in pairs]
    words = Counter(judge(Verdict("c", "inconclusive", "", comparison=one), one.p).word for one in tested)
    assert binom.ppf(0.001, runs, least) <= words["reproduced"] <= binom.ppf(0.999, runs, most)
    assert words["reproduced"] + words["below claim"] == runs


def test_without_n_nothing_is_green() -> None:
    of = claim(n=None)
    found = one(of, run(2000, 5000, of=of))
    assert found.word == "not checkable" and "how many samples" in found.reason


def test_the_whole_split_has_the_whole_splits_n() -> None:
    of = claim(n=None)
    assert one(of, run(2000, 5000, of=of, limit=10**6)).word == "reproduced"


@pytest.mark.parametrize(
    ("protocol", "word"), [("doc-pgd-10-linf-4-255-tuned", "knowledge"), ("mmcoa-co-attack-100", "co-attack.restarts")]
)
def test_what_a_source_does_not_say_matches_nothing(protocol: str, word: str) -> None:
    found = one(claim(protocol=protocol))
    assert found.word == "not checkable" and word in found.reason


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 10), ("step_size", Fraction(1, 4)), ("restarts", 2), ("random_start", False), ("loss", "dlr"),
     ("selection", "any-iterate"), ("prompts", "dataset"), ("preprocessing", "resize-crop"),
     ("gradient", "straight-through"), ("labels", "pseudo"), ("momentum", Fraction(1)), ("evasion", Fraction(1)),
     ("branches", Fraction(1))],
)  # fmt: skip
def test_a_near_match_is_shown_and_never_counts(field: str, value: object) -> None:
    of = claim()
    (own,) = runnable(reported_protocol(of.protocol), of.dataset).protocols
    asked = own.evaluation.model_fields_set | {"prompts", "preprocessing"}
    changed = (
        own.model_copy(update={"evaluation": own.evaluation.model_copy(update={field: value})})
        if field in asked
        else varied(own, **{field: value})
    )
    found = one(of, run(5000, 5000, of=of, protocol=changed))
    assert found.word == "not run" and found.comparison is None
    assert [d.field for d in found.near[0].differences] == [field.replace("_", " ")]
    assert field.replace("_", " ") in found.reason


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("norm", "l2", "norm"), ("eps", Fraction(4, 255), "eps"), ("knowledge", "transfer", "knowledge"),
     ("attack_resolution", "model", "attack resolution")],
)  # fmt: skip
def test_another_threat_model_never_counts(field: str, value: object, said: str) -> None:
    of = claim()
    (own,) = runnable(reported_protocol(of.protocol), of.dataset).protocols
    threat = own.threat.model_copy(update={field: value})
    found = one(of, run(5000, 5000, of=of, protocol=own.model_copy(update={"threat": threat})))
    assert found.word == "not run" and [d.field for d in found.near[0].differences] == [said]


@pytest.mark.parametrize("protocol", ["mmcoa-bert-attack", "mmcoa-sep-attack"])
def test_words_are_compared_like_pixels(protocol: str) -> None:
    of = claim(protocol=protocol)
    own = runnable(reported_protocol(protocol), of.dataset).protocols[0]
    assert "weights of real CLIP and of BERT" in one(of).reason
    assert one(of, run(2000, 5000, of=of)).word == "reproduced"
    rules = {**own.attack.parameters["text"], "index_shift": "corrected", "budget": 2}
    corrected = varied(own, text=rules)
    found = one(of, run(2000, 5000, of=of, protocol=corrected))
    assert found.word == "not run"
    shift, budget = map(str, found.near[0].differences)
    assert shift == "text index shift: claimed as_coded, run corrected" and budget.startswith("text budget: claimed 1")


def test_an_attack_on_images_alone_says_nothing_of_words() -> None:
    of = claim(protocol="mmcoa-sep-attack")
    images = runnable(reported_protocol("mmcoa-pgd-100"), of.dataset).protocols[0]
    assert [d.field for d in one(of, run(2000, 5000, of=of, protocol=images)).near[0].differences] == [
        "attack",
        "modality",
    ]


def test_an_image_that_met_the_attacked_prompts_is_another_attack() -> None:
    of = claim(protocol="mmcoa-sep-attack")
    own = runnable(reported_protocol("mmcoa-sep-attack"), of.dataset).protocols[0]
    joint = own.model_copy(update={"attack": choice("joint", own.attack.parameters, where="test")})
    assert [d.field for d in one(of, run(2000, 5000, of=of, protocol=joint)).near[0].differences] == ["attack"]


def test_another_attack_never_counts_and_its_own_parameters_are_told() -> None:
    of = claim()
    (own,) = runnable(reported_protocol(of.protocol), of.dataset).protocols
    apgd = own.model_copy(update={"attack": choice("apgd-ce", {"steps": 100}, where="test")})
    found = one(of, run(5000, 5000, of=of, protocol=apgd))
    assert found.word == "not run" and "attack" in [d.field for d in found.near[0].differences]


def test_an_attack_from_outside_matches_no_claim() -> None:
    of = claim()
    (own,) = runnable(reported_protocol(of.protocol), of.dataset).protocols
    outside = own.model_copy(update={"attack": AttackChoice.model_validate({"name": "mine.py:Mine", "strength": 3})})
    assert one(of, run(5000, 5000, of=of, protocol=outside)).word == "not run"


def test_retrieval_is_sent_to_its_own_command() -> None:
    recalls = [c for c in claims() if c.protocol == "mmcoa-co-attack-retrieval"]
    found = verdicts(recalls, [])
    assert recalls and all(v.word == "not checkable" and "gauntlet retrieval" in v.reason for v in found.values())


def test_another_backbone_or_variant_never_counts() -> None:
    of = claim()
    for changed in ({"backbone": "miniclip-cnn"}, {"method": "undefended+as_coded"}):
        found = one(of, run(2000, 5000, of=of, **changed))
        assert found.word == "not run" and len(found.near) == 1


def test_the_command_would_make_the_missing_outcome() -> None:
    found = one(claim())
    assert found.word == "not run"
    assert f"--method undefended --backbone {CLIP} --dataset cifar10 --protocol mmcoa-pgd-100" in found.command


def test_a_method_that_is_not_here_and_an_attack_that_is_not() -> None:
    assert "not implemented" in one(claim(method="delta_llava")).reason
    assert "no commit of 'imagenet_r' is known" in one(claim(protocol="fare-clean", dataset="imagenet_r")).reason


def test_sum_and_mean_step_alike_in_fp32() -> None:
    of = claim()
    assert reported_protocol(of.protocol).components[0].reduction == "mean"
    assert match(of, [run(2000, 5000, of=of)]).outcomes


def test_a_prior_beside_the_model_is_no_training_of_the_model() -> None:
    of = claim(method="clipure_diff")
    assert one(of, run(2000, 5000, of=of)).word == "reproduced"


def test_weights_that_the_authors_released_are_no_training_of_ours() -> None:
    of = claim(method="fare", variant="trained at 1/255", trained_on="imagenet")
    assert "--method fare+released=eps1 " in one(of).command
    found = one(of, run(2000, 5000, of=of, method="fare+released=eps1"))
    assert found.word == "reproduced"
    other = one(of, run(2000, 5000, of=of, method="fare+released=eps4"))
    assert other.word == "not run" and "variant: claimed trained at 1/255, run trained at 4/255" in other.reason


def test_a_retrained_model_needs_a_measured_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    of = claim(method="tecoa", trained_on="unknown")
    assert "trained again" in one(of, run(2000, 5000, of=of)).reason
    declared = claim(method="tecoa", trained_on="unknown", sd=0.1)
    assert one(declared, run(1850, 5000, of=declared)).word == "below claim"
    monkeypatch.setattr("vlm_gauntlet.leaderboard.verdicts.spread", lambda *_, **__: SeedSpread(0.02, 3))
    assert one(of, run(1850, 5000, of=of)).word == "inconclusive"


def test_tecoa_was_trained_three_times() -> None:
    clean, attacked = (spread("tecoa", "miniclip-cnn", clean=c) for c in (True, False))
    assert clean is not None and attacked is not None
    assert (clean.seeds, attacked.seeds) == (3, 3)
    assert clean.sd == pytest.approx(0.0355, abs=1e-3) and attacked.sd == pytest.approx(0.0265, abs=1e-3)
    assert spread("tecoa", "miniclip-vit", clean=True) is None and spread("ttc", "miniclip-cnn", clean=True) is None


def with_indicator(made: Outcome, name: str) -> Outcome:
    return made.model_copy(update={"indicators": (fired(name),)})


def test_a_broken_attack_confirms_nothing() -> None:
    of = claim()
    assert one(of, with_indicator(run(2000, 5000, of=of), "out-of-ball")).word == "failed"
    masked = one(of, with_indicator(run(2000, 5000, of=of), "zero-gradient"))
    assert masked.word == "reproduced" and "masked (zero-gradient)" in masked.reason


def test_cw_is_told_from_pgd_by_loss_and_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    known = reported_protocol("mmcoa-pgd-100")
    cw = known.components[0].model_copy(update={"attack": "cw-pgd", "loss": "cw", "kappa": Fraction(50)})
    two = known.model_copy(update={"components": (known.components[0], cw)})
    for module in ("matching", "verdicts"):
        monkeypatch.setattr(f"vlm_gauntlet.leaderboard.{module}.reported_protocol", lambda _: two)
    of, (first, second) = claim(), runnable(two, "cifar10").protocols
    ce, margin = (run(2000, 5000, of=of, protocol=p) for p in (first, second))
    assert one(of, ce, margin).word == "reproduced" and one(of, margin).word == "not run"
    flat = varied(second, kappa="1")
    near = one(of, ce, run(2000, 5000, of=of, protocol=flat)).near[0]
    assert list(map(str, near.differences)) == ["kappa: claimed 50, run 1"]


def test_an_ensemble_is_its_worst_case_and_wants_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"steps": 100, "step_size": Fraction(2), "restarts": 1, "random_start": True, "selection": "any-iterate"}
    parts = (
        Component(attack="apgd-ce", loss="ce", reduction="sum", **steps),  # type: ignore[arg-type]
        Component(attack="apgd-t", loss="dlr-targeted", reduction="sum", **steps),  # type: ignore[arg-type]
    )
    both = reported_protocol("mmcoa-pgd-100").model_copy(update={"components": parts})
    for module in ("matching", "verdicts"):
        monkeypatch.setattr(f"vlm_gauntlet.leaderboard.{module}.reported_protocol", lambda _: both)
    of, (first, second) = claim(), runnable(both, "cifar10").protocols
    ce = run(2600, 5000, of=of, protocol=first)
    targeted = run(2000, 5000, of=of, protocol=second)
    assert one(of, ce).word == "not run", "half an ensemble is another attack"
    found = one(of, ce, targeted)
    assert found.word == "reproduced" and found.observed is not None
    assert found.observed.value == pytest.approx(0.4)


def test_a_night_of_claims_is_judged_together() -> None:
    """A p-value that is red alone is not red as the smallest of forty."""
    alone = claim()
    p = one(alone, run(1905, 5000, of=alone)).q
    assert p is not None and 0.005 < p < 0.06
    many = [claim(column=f"C{i}", dataset="cifar10") for i in range(1)]
    others = [claim(column=d, dataset=d) for d in ("cifar100", "stl10", "dtd", "food101", "flowers102", "sun397")]
    outcomes = [run(1905, 5000, of=many[0])] + [run(2000, 5000, of=c) for c in others]
    found = verdicts([*many, *others], outcomes)
    q = found[many[0].id].q
    assert q is not None and q > p


def test_an_explained_deviation_needs_a_pattern_that_fits() -> None:
    released = next(c for c in claims() if c.id == "clipure/abstract/CLIPure/ImageNet robust")
    assert explained_by(released).startswith("step: ")
    assert explained_by(claim()) == ""
    assert explained_by(claim(method="delta_llava")) == ""


def test_a_list_of_samples_is_met_by_that_list_alone() -> None:
    (name,) = [way for way in readings("fare-imagenet-apgd-linf-4-255") if way.count("restarts=1") == 2]
    run_as = runnable(reported_protocol(name), "imagenet").protocols[0]
    apart = {taken: against(name, "imagenet", taken, run_as)[1] for taken in ("imagenet", "imagenet_robustbench")}
    assert [str(d) for d in apart["imagenet"]] == ["samples: claimed RobustBench's list, run test split"]
    assert apart["imagenet_robustbench"] == ()
