"""Protocols are complete, exact and buildable; families and inheritance; a bad file says which and why."""

from pathlib import Path

import pytest

from vlm_gauntlet.attacks import protocols as module
from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.attacks.protocols import FOLDER, protocol, protocols, read_protocols
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import Protocol


@pytest.mark.parametrize("name", sorted(protocols()))
def test_every_protocol_builds_its_attack(name: str) -> None:
    found = protocol(name)
    attack = build(found)
    assert (attack is None) == (found.threat.knowledge == "none")
    assert attack is None or attack.eps == float(found.threat.eps)
    assert Protocol.model_validate_json(found.model_dump_json()) == found


def test_ids_are_unique_sorted_and_digests_differ() -> None:
    known = protocols()
    assert list(known) == sorted(known)
    assert len({p.digest for p in known.values()}) == len(known)


def test_of_two_files_with_one_id_the_first_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-white-box.toml").write_text(GOOD.replace('knowledge = ["white-box"]', 'knowledge = ["none"]'))
    (tmp_path / "a.toml").write_text(GOOD.replace("steps = 1", "steps = 2"))
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    for cached in (module.parts, module.protocols):
        cached.cache_clear()
    try:
        known = protocols()
        assert [p.attack.parameters["steps"] for p in known.values()] == [1]
        assert list(module.parts().unusable) == ["a"]
    finally:
        monkeypatch.undo()
        for cached in (module.parts, module.protocols):
            cached.cache_clear()


def test_a_title_may_be_reworded_and_nothing_else() -> None:
    known = protocol("pgd-20-adaptive-linf-1-255")
    assert known.model_copy(update={"title": "In other words"}).digest == known.digest
    assert known.model_copy(update={"id": "another"}).digest != known.digest


def test_no_file_repeats_what_its_twin_says() -> None:
    """A file without `base` shares its threat and attack with no other file."""
    seen: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        made = read_protocols(path)[0]
        recipe = made.model_dump_json(exclude={"id": True, "title": True, "threat": {"eps", "knowledge"}})
        assert seen.setdefault(recipe, path.name) == path.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clean", ""),
        ("pgd-10-transfer-linf-1-255", "T0"),
        ("pgd-10-white-box-linf-1-255", "T1"),
        ("apgd-t-white-box-linf-1-255", "T1"),
        ("pgd-20-adaptive-linf-1-255", "T1"),
        ("pgd-20-backbone-adaptive-linf-1-255", "T1"),
        ("pgd-20-unrolled-adaptive-linf-1-255", "T2"),
        ("pgd-20-evasion-adaptive-linf-1-255", "T2"),
        ("pgd-20-branches-adaptive-linf-1-255", "T2"),
        ("pgd-20-boundary-adaptive-linf-1-255", "T2"),
        ("pgd-20-targeted-ce-adaptive-linf-1-255", "T2"),
        ("square-100-black-box-linf-1-255", "T3"),
    ],
)
def test_levels(name: str, expected: str) -> None:
    assert level(protocol(name)) == expected


GOOD = """title = "t"
eps = ["1/255"]
knowledge = ["white-box"]

[threat]
norm = "linf"

[attack]
name = "pgd"
steps = 1
step_size = "1"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace('"1"', "0.25"), "exact fraction"),
        (GOOD.replace("steps = 1", "stepz = 1"), "stepz"),
        (GOOD.replace("white-box", "grey-box"), "knowledge"),
        (GOOD.replace("[threat]", "[thread]"), "threat"),
        (GOOD.replace('title = "t"', 'title = "t"\nextra = 1'), "unknown field 'extra'"),
        (GOOD.replace('title = "t"\n', ""), "title"),
        (GOOD.replace('knowledge = ["white-box"]\n', ""), "knowledge"),
        (GOOD.replace('name = "pgd"\n', ""), "steps|attack"),
        (GOOD + "[evaluation]\nscoring_draws = 0\n", "scoring_draws"),
        (GOOD + "]]", "recipe.toml"),
        (GOOD.replace('["1/255"]', "[0.004]"), "recipe.toml"),
        (GOOD.replace('["1/255"]', "3"), "recipe.toml"),
        (GOOD.replace('"1/255"', '"-1/255"'), "greater than or equal to 0"),
        (GOOD.replace('"1/255"', '"1/0"'), "recipe.toml"),
        ('base = "nowhere"\n' + GOOD, "is none of"),
        ('base = "recipe"\n' + GOOD, "inherits from itself"),
    ],
)
def test_a_bad_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    assert read_protocols(path)[0].id == "recipe-white-box-linf-1-255"
    path.write_text(text)
    with pytest.raises(GauntletError, match=message) as error:
        read_protocols(path)
    assert str(path) in str(error.value)


def test_a_family_is_each_pair_of_knowledge_and_budget(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace('["1/255"]', '["1/255", "1"]').replace('["white', '["transfer", "white'))
    made = read_protocols(path)
    assert [p.id.removeprefix("mine-") for p in made] == [
        "transfer-linf-1-255", "transfer-linf-1", "white-box-linf-1-255", "white-box-linf-1",
    ]  # fmt: skip
    assert "made on the undefended backbone" in made[0].title


def test_a_file_inherits_field_by_field_from_the_house_or_from_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "longer.toml").write_text('title = "longer"\nbase = "pgd-20"\n[attack]\nsteps = 50\n')
    (tmp_path / "longest.toml").write_text('title = "longest"\nbase = "longer"\neps = ["1/255"]\n[attack]\neot = 8\n')
    (made,) = read_protocols(tmp_path / "longest.toml")
    assert made.attack.parameters == {
        "gradient": "straight-through", "eot": 8, "steps": 50, "selection": "any-iterate",
    }  # fmt: skip
    assert made.id == "longest-adaptive-linf-1-255" and made.title == "longest"
