"""What an outcome was made with is shown where it differs from what is here."""

from importlib.metadata import version

import pytest

from vlm_gauntlet.suites import versions
from vlm_gauntlet.suites.versions import DECIDING, other_versions, version_words, versions_here, versions_told


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "versions_here", lambda: {"torch": "2.11.0+cpu", "torchvision": "0.26.0",
                                                            "open_clip_torch": "3.3.0", "numpy": "2.4.6",
                                                            "pyautoattack": "0.2.0"})  # fmt: skip


def test_only_versions_that_decide_numbers_are_compared() -> None:
    same = {"python": "3.9", "numpy": "1.0", "torch": "2.11.0+cu128", "torchvision": "0.26.0"}
    assert other_versions(same) == {} and version_words(same) == ""
    assert other_versions({**same, "torch": "2.9.0"}) == {"torch": ("2.9.0", "2.11.0+cpu")}


def test_the_words_name_both() -> None:
    assert version_words({"torchvision": "0.24.0"}) == "made with torchvision 0.24.0; here 0.26.0"
    both = {"open_clip_torch": "3.0.0", "torchvision": "0.24.0", "torch": "2.11.0"}
    assert version_words(both) == "made with torchvision 0.24.0, open_clip_torch 3.0.0; here 0.26.0, 3.3.0"
    assert versions_told([both, {"torch": "2.9.0"}, {"torch": "2.9.0"}, {}]) == (
        "open_clip_torch 3.0.0 (here 3.3.0), torch 2.9.0 (here 2.11.0+cpu), torchvision 0.24.0 (here 0.26.0)"
    )


def test_what_is_recorded_is_installed() -> None:
    assert {name: versions_here()[name] for name in DECIDING} == {name: version(name) for name in DECIDING}
