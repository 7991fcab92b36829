"""A bad data file gives one clear error that names file, line, column and fix, and nothing else, whatever its bytes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures import reported, sources
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.claims import COLUMNS, HERE, Claim, read_claims, to_csv

GOOD = (HERE / "aom" / "claims.csv").read_text()
HEADER = ",".join(COLUMNS)


def row(**changed: str) -> str:
    fields = dict(zip(COLUMNS, GOOD.splitlines()[1].split(","), strict=True)) | changed
    return ",".join(fields.values())


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "aom" / "claims.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "came", "where", "fix"),
    [
        (HEADER.replace("protocol,", "") + "\n", "missing columns protocol", "line 1", "first line: source,table"),
        (HEADER + ",colour\n", "unknown colour", "line 1", "first line"),
        ("", "missing columns", "line 1", "first line"),
        (f"{HEADER}\n{row()}\n{row(protocol='pgd-11')}\n", "'pgd-11' is not in", "line 3, column protocol", "add it"),
        (f"{HEADER}\n{row(source='nowhere')}\n", "'nowhere' is not in", "line 2, column source", "one of: "),
        (f"{HEADER}\n{row(dataset='cifar11')}\n", "'cifar11' is not in", "line 2, column dataset", "add it"),
        (f"{HEADER}\n{row(value='101.5')}\n", "outside [0, 100] %", "line 2, column value", "see methods/claims.py"),
        (f"{HEADER}\n{row(value='-3')}\n", "outside [0, 100] %", "line 2, column value", "see"),
        (f"{HEADER}\n{row(value='-')}\n", "does not start with a number", "line 2, column value", "see"),
        (
            f"{HEADER}\n{row(metric='accuracies')}\n",
            "came 'accuracies'; expected 'accuracy'",
            "line 2, column metric",
            "one of: accuracy",
        ),
        (f"{HEADER}\n{row(tag='rumour')}\n", "came 'rumour'; expected 'paper'", "line 2, column tag", "one of: paper"),
        (f"{HEADER}\n{row(tag='memory')}\n", "came 'memory'; expected 'paper'", "line 2, column tag", "one of: paper"),
        (f"{HEADER}\n{row(n='0')}\n", "greater than or equal to 1", "line 2, column n", "see"),
        (f"{HEADER}\n{row()}\n{row()}\n", "a second claim", "line 3, column row", "name table, row and column apart"),
        (f"{HEADER}\n{row()},more\n", f"{len(COLUMNS) + 1} fields", "line 2", "quoting those with commas"),
        (f'{HEADER}\n"{row()}\n', "not a CSV file", "line 1", "comma-separated UTF-8"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8", "line 1", "comma-separated UTF-8"),
    ],
)
def test_one_clear_error(tmp_path: Path, text: str | bytes, came: str, where: str, fix: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(GauntletError) as caught:
        read_claims(path)
    assert came in caught.value.came
    assert where in caught.value.where and str(path) in caught.value.where
    assert fix in caught.value.fix


def test_what_is_written_is_read_again() -> None:
    assert to_csv(read_claims(HERE / "aom" / "claims.csv")) == GOOD


def mutations(good: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, or a good file with a piece replaced."""

    def splice(place: int, length: int, piece: bytes) -> bytes:
        return good[:place] + piece + good[place + length :]

    spliced = st.builds(splice, st.integers(0, len(good)), st.integers(0, 40), st.binary(max_size=12))
    return st.one_of(st.binary(max_size=300), spliced)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(mutations("\n".join(GOOD.splitlines()[:4]).encode()))
def test_no_bytes_crash_the_claims(tmp_path: Path, data: bytes) -> None:
    try:
        assert all(isinstance(c, Claim) for c in read_claims(write(tmp_path, data)))
    except GauntletError as error:
        assert re.search(r"claims\.csv, line \d+", error.where)


TOML: dict[str, tuple[Path, Callable[[Path], object]]] = {
    "sources": (sources.FOLDER / "mmcoa.toml", sources.read_source),
    "reported protocols": (reported.FOLDER / "mmcoa.toml", reported.read_family),
}


@pytest.mark.parametrize("kind", TOML)
@FUZZ
@given(st.data())
def test_no_bytes_crash_a_toml(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    good, read = TOML[kind]
    path = tmp_path / good.name
    path.write_bytes(data.draw(mutations(good.read_bytes())))
    try:
        read(path)
    except GauntletError as error:
        assert str(path) in error.where and error.fix


@pytest.mark.parametrize("kind", TOML)
def test_a_bad_toml_names_its_file(tmp_path: Path, kind: str) -> None:
    good, read = TOML[kind]
    path = tmp_path / good.name
    path.write_text(good.read_text().replace("title", "titel"))
    with pytest.raises(GauntletError, match="titel") as caught:
        read(path)
    assert str(path) in caught.value.where


def test_the_printed_digits_say_the_rounding() -> None:
    first = read_claims(HERE / "aom" / "claims.csv")[0]
    for value, rounding in (("40", 0.5), ("40.1", 0.05), (".83", 0.005), ("+1.25", 0.005)):
        claim = first.model_copy(update={"value": value})
        assert claim.rounding == pytest.approx(rounding)
        assert claim.number == float(value)
