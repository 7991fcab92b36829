"""What a place that machines share holds is whole and stays: on a disk, in fsspec's memory, on a real S3 server."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.shared_store import Disk, Objects, SharedJournal, journal_at, place_at

from ..leaderboard.factory import outcome

pytestmark = pytest.mark.network  # of this machine: the server runs here
BUCKET = "gauntlet"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of S3 in a thread; its address."""
    why = "needs the extra `s3` and moto[server]: make beyond"
    s3fs = pytest.importorskip("s3fs", reason=why)
    moto = pytest.importorskip("moto.server", reason=why)
    here = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    here.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = here.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "nobody's")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield f"s3://{BUCKET}"
    here.stop()


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    if request.param == "folder":
        return str(tmp_path / "shared")
    if request.param == "file":
        return f"file://{tmp_path / 'shared'}"
    root = "memory://" if request.param == "memory" else request.getfixturevalue("server")
    return f"{root}/{uuid.uuid4().hex}"


def other(made: Outcome) -> Outcome:
    """The same key with another result."""
    return made.model_copy(update={"samples": outcome("01").samples})


def test_what_one_machine_finished_another_takes(location: str, tmp_path: Path) -> None:
    one, two = (SharedJournal(tmp_path / name, location) for name in ("one", "two"))
    made = outcome("10")
    assert two.find(made.key) is None
    one.write(made)
    assert two.find(made.key) == made and Journal(tmp_path / "two").find(made.key) == made
    assert one.place.names() == [f"{made.key}.json"]


def test_the_first_result_stays_and_another_one_is_an_error(location: str, tmp_path: Path) -> None:
    one, two = (SharedJournal(tmp_path / name, location) for name in ("one", "two"))
    made = outcome("10")
    one.write(made)
    later = made.model_copy(update={"provenance": made.provenance.model_copy(update={"command": "another"})})
    two.write(later)  # the same result
    held = one.place.get(f"{made.key}.json")
    with pytest.raises(GauntletError, match="with different results") as error:
        SharedJournal(tmp_path / "three", location).write(other(made))
    assert location in error.value.where and one.place.get(f"{made.key}.json") == held
    assert held == (made.model_dump_json(indent=1) + "\n").encode()


def test_what_was_not_put_is_put_by_the_next_run(location: str, tmp_path: Path) -> None:
    made = outcome("10")
    Journal(tmp_path / "o").write(made)  # finished here, and killed before it was there
    shared = SharedJournal(tmp_path / "o", location)
    assert shared.find(made.key) == made and shared.place.names() == [f"{made.key}.json"]


def test_everything_comes_but_what_is_no_outcome(location: str, tmp_path: Path) -> None:
    first, second = outcome("10"), outcome("11", seed=1)
    one, two = (SharedJournal(tmp_path / name, location) for name in ("one", "two"))
    for made in (first, second):
        one.write(made)
    one.place.replace("notes.txt", b"x")
    one.place.replace(".hidden.json", b"{}")
    assert two.fetch() == 2 and two.fetch() == 0
    assert {path.name for path in (tmp_path / "two").glob("*.json")} == {f"{o.key}.json" for o in (first, second)}
    one.place.replace(f"{first.key}.json", one.place.get(f"{second.key}.json") or b"")
    three = SharedJournal(tmp_path / "three", location)
    with pytest.raises(GauntletError, match="holds the outcome"):
        three.fetch()
    assert three.outcomes() == [second], "what is whole came all the same"


def test_merge_takes_what_machines_shared(tmp_path: Path) -> None:
    first, second = outcome("10"), outcome("11", seed=1)
    url = f"file://{tmp_path / 'shared'}"
    SharedJournal(tmp_path / "one", url).write(first)
    Journal(tmp_path / "two").write(second)
    asked = ["merge", url, str(tmp_path / "two"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, asked, prog_name="gauntlet")
    assert result.exit_code == 0 and "1 outcomes to" in result.output, result.output
    assert {o.key for o in Journal(tmp_path / "out").outcomes()} == {first.key, second.key}


def test_a_run_takes_what_another_machine_finished(location: str, tmp_path: Path) -> None:
    cell = "run --method undefended --backbone miniclip-vit --dataset digits --protocol clean --limit 2 --store"
    for machine in ("one", "two"):
        asked = [*cell.split(), location, "--outcomes", str(tmp_path / machine)]
        result = CliRunner().invoke(app, asked, prog_name="gauntlet")
        assert result.exit_code == 0, result.output
    (one,), (two,) = (Journal(tmp_path / machine).outcomes() for machine in ("one", "two"))
    assert one == two, "the same in seconds and time: it was taken"


def test_a_torn_object_is_an_error(location: str, tmp_path: Path) -> None:
    made = outcome("10")
    shared = SharedJournal(tmp_path / "o", location)
    shared.place.replace(f"{made.key}.json", made.model_dump_json().encode()[:100])
    with pytest.raises(GauntletError, match="the store cannot be read"):
        shared.find(made.key)


def test_of_many_writers_one_wins(location: str) -> None:
    place, won, start = place_at(location), [], threading.Barrier(8)

    def put(number: int) -> None:
        start.wait()
        if place_at(location).put("a.json", str(number).encode() * 50_000):
            won.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if location.startswith("memory"):  # looks first and then writes
        assert won and place.get("a.json") in {str(number).encode() * 50_000 for number in won}
    else:
        (winner,) = won
        assert place.get("a.json") == str(winner).encode() * 50_000
    assert place.names() == ["a.json"]


class Unconditional:
    """A server that knows no conditions."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise NotImplementedError("A header you provided implies functionality that is not implemented")
        self.held[path] = data

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        if path not in self.held:
            raise FileNotFoundError(path)
        return self.held[path][start:end]


def test_without_conditions_it_looks_first() -> None:
    place = Objects(Unconditional(), "root")
    assert place.put("a.json", b"first") and not place.put("a.json", b"second")
    assert place.get("a.json") == b"first"


def test_a_link_on_a_shared_disk_is_not_followed(tmp_path: Path) -> None:
    made = outcome("10")
    Journal(tmp_path / "elsewhere").write(made)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / f"{made.key}.json").symlink_to(tmp_path / "elsewhere" / f"{made.key}.json")
    with pytest.raises(GauntletError, match="symbolic link"):
        SharedJournal(tmp_path / "o", str(tmp_path / "shared")).find(made.key)


def test_a_place_that_cannot_be_reached_keeps_the_outcome_here(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("a file where the folder should be")
    made, shared = outcome("10"), SharedJournal(tmp_path / "o", str(tmp_path / "shared"))
    with pytest.raises(GauntletError, match="the store cannot be written"):
        shared.write(made)
    assert Journal(tmp_path / "o").find(made.key) == made


def test_unknown_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GauntletError, match="nosuch"):
        place_at("nosuch://bucket")
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_, **__: (_ for _ in ()).throw(ImportError("Install s3fs")))
    with pytest.raises(UnavailableError, match="s3://bucket: Install s3fs"):
        place_at("s3://bucket")
    assert place_at("some/folder") == Disk(Path("some/folder").absolute())
    assert type(journal_at(tmp_path, None)) is Journal
