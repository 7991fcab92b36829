"""The list of mutants stays true: each stands where it says, and a bad entry is an error in words."""

from dataclasses import replace
from pathlib import Path

import pytest

from ..mutants.catalogue import BadMutant, Mutant, mutants

GOOD = Mutant("turned", "rooms/a.py", "x + 1", "x - 1", ("tests/test_a.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "a.py").write_text(
        "def f(x):\n    return x + 1\n\n\ndef g(x):\n    return (x * 2) * (x * 2)\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").touch()
    return tmp_path


@pytest.mark.parametrize("mutant", mutants(), ids=lambda m: m.name.replace(" ", "-"))
def test_each_is_where_it_says(mutant: Mutant) -> None:
    """A text that is not found once has moved: look where it went, and mend the entry in tests/mutants/*.toml."""
    assert mutant.applied()


def test_a_good_one_changes_its_line_and_nothing_else(tree: Path) -> None:
    before = (tree / GOOD.file).read_text()
    assert GOOD.applied(tree) == before.replace("x + 1", "x - 1")
    assert (tree / GOOD.file).read_text() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "rooms/b.py"}, "rooms/b.py is not there: look where its code went"),
        ({"find": "x + 2"}, "is 0 times in rooms/a.py, not once"),
        ({"find": "x * 2"}, "is 2 times in rooms/a.py, not once"),
        ({"put": "x +"}, "does not parse"),
        ({"put": "(x + 1)"}, "means the same"),
        ({"tests": ("tests/test_b.py",)}, "no tests tests/test_b.py"),
    ],
)
def test_a_bad_one_is_named(change: dict[str, object], said: str, tree: Path) -> None:
    with pytest.raises(BadMutant, match=f"turned: .*{said}"):
        replace(GOOD, **change).applied(tree)  # type: ignore[arg-type]


def test_a_bad_list_is_named(tmp_path: Path) -> None:
    entry = '[[mutant]]\nname = "one"\nfile = "a"\nfind = "b"\nput = "c"\n'
    for text, said in (
        (entry, "one: no tests"),
        ('tests = ["t"]\n' + entry + entry, "two mutants of one name: one"),
        ('tests = ["t"]\n' + entry + 'sense = "none"\n', "sense"),
    ):
        (tmp_path / "list.toml").write_text(text)
        with pytest.raises(BadMutant, match=said):
            mutants(tmp_path)
