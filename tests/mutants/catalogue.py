"""The mutants: one small wrong change each, as data in `*.toml` beside this file."""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class BadMutant(ValueError):
    """A mutant whose text is not where it says, or that changes nothing."""


@dataclass(frozen=True)
class Mutant:
    """One change that the tests must notice.

    Args:
        name: what goes wrong, in a few words; unique.
        file: what is changed, from the repository's root.
        find: text that stands in the file exactly once.
        put: what stands there instead.
        tests: files (or node ids) of which one must fail; the nearest ones, so that a run stays short.
        survives: why no test can or does notice it. A reason that no longer holds is an error.
    """

    name: str
    file: str
    find: str
    put: str
    tests: tuple[str, ...]
    survives: str = ""

    def applied(self, root: Path = ROOT) -> str:
        """The file's text with the change in it.

        Raises:
            BadMutant: the file is not there; the text is not in it exactly once; the change is none, or does not parse;
                a test is not there.
        """
        path = root / self.file
        if not path.is_file():
            raise BadMutant(f"{self.name}: {self.file} is not there: look where its code went and mend the entry")
        source = path.read_text()
        if (count := source.count(self.find)) != 1:
            raise BadMutant(
                f"{self.name}: {self.find!r} is {count} times in {self.file}, not once: look where it went and mend "
                "the entry"
            )
        changed = source.replace(self.find, self.put)
        try:
            same = ast.dump(ast.parse(source)) == ast.dump(ast.parse(changed))
        except SyntaxError as error:
            raise BadMutant(f"{self.name}: with {self.put!r}, {self.file} does not parse: {error}") from None
        if same:
            raise BadMutant(f"{self.name}: {self.put!r} means the same as {self.find!r}")
        if lost := [test for test in self.tests if not (root / test.partition("::")[0]).is_file()]:
            raise BadMutant(f"{self.name}: no tests {', '.join(lost)}: name those that read {self.file} now")
        return changed


def mutants(folder: Path = HERE) -> list[Mutant]:
    """All mutants, in the order of their files.

    Raises:
        BadMutant: two have one name, or an entry has no tests or unknown fields.
    """
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        record = tomllib.loads(path.read_text())
        for entry in record.pop("mutant"):
            fields = {"tests": record.get("tests", []), **entry}
            try:
                found.append(Mutant(**{**fields, "tests": tuple(fields["tests"])}))
            except TypeError as error:
                raise BadMutant(f"{path.name}, {entry.get('name', 'an entry without a name')}: {error}") from None
            if not found[-1].tests:
                raise BadMutant(f"{path.name}, {found[-1].name}: no tests")
    names = [m.name for m in found]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise BadMutant(f"two mutants of one name: {', '.join(twice)}")
    return found
