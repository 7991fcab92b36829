"""The audit finds by itself what is wrong in the printed tables, and each rule is caught sleeping if it does not."""

from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.claims import Claim
from vlm_gauntlet.suites.audit import audit
from vlm_gauntlet.suites.audit import known as known_module
from vlm_gauntlet.suites.audit.finding import Finding
from vlm_gauntlet.suites.audit.known import Known

FOUND = audit()
SETS = ("imagenet", "cifar10", "cifar100", "tiny_imagenet", "stl10", "sun397", "food101", "oxford_pets", "flowers102",
        "dtd", "eurosat", "fgvc_aircraft", "country211", "caltech101", "caltech256")  # fmt: skip


def of(rule: str, *pieces: str) -> list[Finding]:
    """Findings of a rule whose cells name every piece."""
    return [f for f in FOUND if f.rule == rule and all(any(p in c for c in f.cells) for p in pieces)]


def test_the_copied_caltech256_cell_and_the_mean_that_it_spoils() -> None:
    (found,) = of("duplicate", "mmcoa/Table III/CLIP/OxfordPets", "mmcoa/Table III/CLIP/Caltech256")
    assert set(found.values) == {"87.38"}
    assert "62.69 and not 63.05" in found.arithmetic


def test_every_mean_that_counts_imagenet() -> None:
    for table in ("Table II", "Table III"):
        found = of("training-set-in-mean", f"mmcoa/{table}/")
        assert len([f for f in found if f.cells[0].startswith(f"mmcoa/{table}/")]) == 13, table
    (full,) = of("training-set-in-mean", "mmcoa/Table II/Full-shot MMCoA/Average")
    assert "21.93 over the 14 without imagenet" in full.arithmetic


def test_the_five_table_one_cells_where_two_modalities_help() -> None:
    found = [f for f in FOUND if f.rule == "multimodal-above-image" and f.cells[0].startswith("mmcoa/Table I/")]
    assert {f.cells[0].partition("Table I/")[2] for f in found} == {
        "CLIP/CIFAR10 Multimodal Attack", "CLIP/TinyImagenet Multimodal Attack", "CLIP/ImageNet Multimodal Attack",
        "FT-standard/CIFAR10 Multimodal Attack", "FT-standard/CIFAR100 Multimodal Attack",
    }  # fmt: skip


def test_mmcoa_imagenet_has_two_numbers() -> None:
    (found,) = of("two-values", "mmcoa/Table I/MMCoA/ImageNet Multimodal", "mmcoa/Table II/Full-shot MMCoA/ImageNet")
    assert {"30.02", "22.89"} <= set(found.values)


@pytest.mark.parametrize(("data", "low", "high"), [("CIFAR10", "10.36", "11.65"), ("CIFAR100", "2.42", "3.13")])
def test_clip_differs_between_tables_one_and_two(data: str, low: str, high: str) -> None:
    (found,) = of("two-values", f"mmcoa/Table I/CLIP/{data} Multimodal Attack", f"mmcoa/Table II/CLIP/{data}")
    assert {low, high} <= set(found.values)


def test_tgas_printed_mean() -> None:
    (found,) = [f for f in of("mean", "tga-zsr") if f.values[0] == "56.44"]
    assert "its 16 cells give 56.379" in found.arithmetic


def test_a_difference_taken_from_the_wrong_row() -> None:
    (found,) = of("difference", "mmcoa/Table I/Δ (SOTA)/ImageNet Text Attack")
    assert "printed +25.50; 41.34 - 17.61 = +23.73" in found.arithmetic


def test_sources_disagree_about_undefended_clip() -> None:
    assert of("undefended-disagrees", "survey-2601.12443/Table II/CLIP/EuroSAT CLN", "mmcoa/Table III/CLIP/EuroSAT")


def test_tapt_is_stronger_under_autoattack() -> None:
    assert len(of("autoattack-above-pgd", "tapt/")) >= 4


def test_the_gravest_come_first() -> None:
    assert [f.gravity for f in FOUND] == sorted((f.gravity for f in FOUND), reverse=True)
    assert len({f.fingerprint for f in FOUND}) == len(FOUND)
    assert all(f.sentence.endswith(".") and f.arithmetic and len(f.cells) == len(f.values) for f in FOUND)


def cell(
    value: float, *, dataset: str = "cifar10", protocol: str = "mmcoa-clean", row: str = "X", **more: str
) -> Claim:
    column = more.pop("column", f"{dataset} {protocol}")
    fields = {"method": "mmcoa", "source": "mmcoa", "table": "Table X", "backbone": "ViT-B/32", "trained_on": "stl10",
              "setting": "zero-shot", "metric": "accuracy", "tag": "paper"} | more  # fmt: skip
    return Claim(row=row, column=column, dataset=dataset, protocol=protocol, value=f"{value:.2f}", **fields)  # type: ignore[arg-type]


def table(*, mean: float, **changed: float) -> list[Claim]:
    """A row over fifteen sets, 10.01 to 24.01, and its printed mean."""
    values = {d: 10.01 + i for i, d in enumerate(SETS)} | changed
    return [cell(v, dataset=d) for d, v in values.items()] + [cell(mean, dataset="mmcoa-15", column="Average")]


def rules(*cells: Claim) -> list[str]:
    return [f.rule for f in audit(cells)]


def test_a_clean_table_has_no_finding() -> None:
    pgd = cell(5.0, protocol="mmcoa-pgd-100", dataset="cifar10")
    assert rules(*(c.model_copy(update={"trained_on": "none"}) for c in [*table(mean=17.01), pgd])) == []


def test_a_wrong_mean_is_caught_and_rounding_is_not() -> None:
    assert "mean" in rules(*table(mean=17.03))
    assert "mean" not in rules(*table(mean=17.02))
    assert "mean" not in rules(*table(mean=20.0)[1:]), "a mean with a missing cell cannot be recomputed"


def test_the_training_set_in_a_mean_is_caught() -> None:
    assert rules(*table(mean=17.01)) == ["training-set-in-mean"]


def test_a_copied_cell_is_caught() -> None:
    assert "duplicate" in rules(*table(mean=17.94, cifar10=24.01))


@pytest.mark.parametrize(
    ("rule", "easy", "hard"),
    [
        ("multimodal-above-image", "mmcoa-pgd-100", "mmcoa-sep-attack"),
        ("robust-not-below-clean", "mmcoa-clean", "mmcoa-pgd-100"),
    ],
)
def test_an_impossible_order_is_caught(rule: str, easy: str, hard: str) -> None:
    assert rules(cell(40.0, protocol=easy), cell(40.5, protocol=hard)) == [rule]
    assert rules(cell(40.0, protocol=easy), cell(39.5, protocol=hard)) == []


def test_a_robust_accuracy_equal_to_the_clean_one_is_caught() -> None:
    assert rules(cell(17.5), cell(17.5, protocol="mmcoa-pgd-100")) == ["robust-not-below-clean"]


def test_two_values_for_one_quantity_are_caught() -> None:
    assert rules(cell(40.0), cell(41.0, row="Y", table="Table Y")) == ["two-values"]
    assert rules(cell(40.0), cell(40.0, row="Y", table="Table Y")) == []


def test_a_reason_expires_when_a_cell_changes() -> None:
    before, after = audit(table(mean=17.03)), audit(table(mean=17.04))
    reason = Known(rule="mean", cells="mmcoa/Table X/*", digest="", reason="somebody looked at it")
    fresh = reason.model_copy(update={"digest": reason.digest_of(before)})
    assert not fresh.expired(before)
    assert fresh.expired(after) and fresh.expired([])


def test_a_bad_file_of_reasons_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "known.toml"
    path.write_text('[[known]]\nrule = "mean"\n')
    monkeypatch.setattr(known_module, "PATH", path)
    with pytest.raises(GauntletError) as caught:
        known_module.known_findings.__wrapped__()
    assert str(path) in caught.value.where
