"""Files of descriptions: what they must hold, which one is taken, what is said when none fits."""

import json
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.datasets import EMBEDDED, Dataset
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.methods.cola.bank_file import FOLDER, describe, read_descriptions

MINI = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "pacs": ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"),
    "checks": ("cat", "dog", "ship", "tree", "cup"),
}


def write(folder: Path, name: str, **classes: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in classes.items()))
    return path


@pytest.mark.parametrize("names", MINI.values(), ids=MINI)
def test_the_mini_sets_are_described(names: tuple[str, ...]) -> None:
    assert [len(group) for group in describe(names)] == [8] * len(names)


@pytest.mark.parametrize("name", ["digits", "emoji_groups", "fashion_mnist"])
def test_the_embedded_sets_have_files_of_their_own(name: str) -> None:
    classes = tuple(Dataset(name, EMBEDDED / name).class_names)
    own = read_descriptions(FOLDER / f"{name}.toml")
    assert describe(classes) == tuple(own[c] for c in classes)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_sentences_are_not_repeated(path: Path) -> None:
    sentences = [s for group in read_descriptions(path).values() for s in group]
    assert len(set(sentences)) == len(sentences)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    classes = {"cat": ["A cat."], "dog": ["A dog.", "A puppy."]}
    other = tmp_path / "pets.json"
    other.write_text(json.dumps(classes))
    assert read_descriptions(write(tmp_path, "pets.toml", **classes)) == read_descriptions(other)
    assert describe(("dog", "cat"), other) == (("A dog.", "A puppy."), ("A cat.",))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "cat = []", r"class 'cat' has \[\]"),
        ("a.toml", 'cat = "A cat."', "class 'cat' has 'A cat.'"),
        ("a.toml", 'cat = ["A cat.", 3]', "class 'cat' has 3 among its sentences"),
        ("a.toml", 'cat = ["A cat.", " "]', "class 'cat' has ' ' among"),
        ("a.toml", "cat = [", "does not validate"),
        ("a.json", '["A cat."]', "a list at the top"),
        ("a.json", "{", "does not validate"),
    ],
)
def test_a_bad_file_is_refused(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(GauntletError, match=said) as caught:
        read_descriptions(path)
    assert caught.value.where == str(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="does not validate"):
        describe(("cat", "dog"), tmp_path / "none.toml")


def test_the_file_with_the_fewest_classes_is_taken(tmp_path: Path) -> None:
    write(tmp_path, "all.toml", cat=["Any cat."], dog=["Any dog."], ship=["Any ship."])
    write(tmp_path, "pets.toml", cat=["A pet cat."], dog=["A pet dog."])
    assert describe(("dog", "cat"), folder=tmp_path) == (("A pet dog.",), ("A pet cat.",))
    assert describe(("ship", "cat"), folder=tmp_path) == (("Any ship.",), ("Any cat.",))
    write(tmp_path, "more.toml", cat=["Another cat."], dog=["Another dog."])
    with pytest.raises(GauntletError, match=r"more\.toml and pets\.toml describe the same classes"):
        describe(("dog", "cat"), folder=tmp_path)


def test_missing_classes_are_named_with_the_nearest_file(tmp_path: Path) -> None:
    write(tmp_path, "other.toml", ship=["A ship."])
    write(tmp_path, "pets.toml", cat=["A cat."])
    with pytest.raises(UnavailableError, match="no descriptions of 1 of 2 classes: dog") as caught:
        describe(("cat", "dog"), folder=tmp_path)
    assert caught.value.where.endswith("pets.toml") and "<data set>.toml" in caught.value.fix
