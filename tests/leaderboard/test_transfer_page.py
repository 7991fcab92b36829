"""Trained methods across data sets: in-distribution and zero-shot told apart, and what the page leaves out."""

import json
from pathlib import Path

import pytest

from vlm_gauntlet.cli.train_all import trainable
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.training_sets import setting, trained_on, training_sets
from vlm_gauntlet.leaderboard.transfer_page import tables
from vlm_gauntlet.methods.listed import HERE as METHODS
from vlm_gauntlet.training.pins import read_pins

from .factory import outcome

PGD = "pgd-10-white-box-linf-16-255"


def test_every_training_set_of_a_pin_is_known() -> None:
    named = {pin.trained_on for name in trainable() for pin in read_pins(METHODS / name).values()}
    assert named and named <= training_sets().keys()


@pytest.mark.parametrize(
    ("method", "backbone", "expected"),
    [
        ("tecoa", "miniclip-vit", "miniclip_vit_train"), ("tecoa", "miniclip-cnn", "tiny_imagenet"),
        ("tecoa+mix=0.5", "miniclip-cnn", "tiny_imagenet"), ("ttc@tecoa", "miniclip-vit", "miniclip_vit_train"),
        ("delta_clip", "miniclip-vit", "miniclip-sources"), ("ttc", "miniclip-vit", None), ("undefended", "tiny", None),
        ("tecoa", "tiny", None), ("clipure_diff", "miniclip-vit", None), ("nobody", "miniclip-vit", None),
    ],
)  # fmt: skip
def test_what_a_model_was_trained_on(method: str, backbone: str, expected: str | None) -> None:
    assert trained_on(method, backbone) == expected


@pytest.mark.parametrize(
    ("seen", "dataset", "expected"),
    [
        ("miniclip_vit_train", "digits", "in-distribution"), ("miniclip_vit_train", "emoji_unseen_names", "zero-shot"),
        ("miniclip_vit_train", "emoji_groups_twemoji", "other style"), ("tiny_imagenet", "pacs_photo", "zero-shot"),
        ("tiny_imagenet", "tiny_imagenet", "in-distribution"), ("elsewhere", "digits", "unknown"),
    ],
)  # fmt: skip
def test_in_distribution_and_zero_shot(seen: str, dataset: str, expected: str) -> None:
    assert setting(seen, dataset) == expected


def test_the_page_has_trained_methods_on_two_sets_or_more(tmp_path: Path) -> None:
    ran = [
        outcome(bits, PGD, method=method, backbone="miniclip-vit", dataset=dataset)
        for method, dataset, bits in [
            ("tecoa", "digits", "1100"), ("tecoa", "emoji_unseen_names", "1000"), ("fare", "digits", "1110"),
            ("ttc", "digits", "1111"), ("undefended", "digits", "0000"), ("undefended", "emoji_unseen_names", "0000"),
        ]
    ]  # fmt: skip
    (table,) = tables(rows(ran))
    assert table.datasets == ("digits", "emoji_unseen_names")
    assert {line.method: {d: cell.setting for d, cell in line.cells.items()} for line in table.lines} == {
        "fare": {"digits": "in-distribution"},
        "tecoa": {"digits": "in-distribution", "emoji_unseen_names": "zero-shot"},
    }
    assert tables(rows(ran[2:])) == [], "one data set compares nothing"
    build_site(ran, tmp_path / "site")
    text = (tmp_path / "site" / "transfer.html").read_text()
    assert "zero-shot, n = 4" in text and "in-distribution, n = 4" in text and "methods/ttc.html" not in text
    known = json.loads((tmp_path / "site" / "transfer.json").read_text())
    assert {(line["method"], line["dataset"], line["worst"]) for line in known} == {
        ("tecoa", "digits", 0.5), ("tecoa", "emoji_unseen_names", 0.25), ("fare", "digits", 0.75),
    }  # fmt: skip
