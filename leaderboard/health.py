"""Is a published board whole? Its pages and links answer, its data can be read, its newest outcome is young."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import urlopen

from vlm_gauntlet.fixtures.records import Outcome

Fetch = Callable[[str], bytes]
START, RESULTS = "index.html", "results.json"
SECONDS, LARGEST = 30, 64 << 20


@dataclass
class Health:
    """What was found.

    Args:
        pages: files that answered.
        outcomes: of them, records of cells that validate.
        newest: when the newest of these was made.
        problems: in words.
    """

    pages: int = 0
    outcomes: int = 0
    newest: datetime | None = None
    problems: list[str] = field(default_factory=list)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def fetching(place: str) -> Fetch:
    """How files of a board are read: below an address, or from a folder."""
    if urlsplit(place).scheme in ("http", "https"):

        def fetch(name: str) -> bytes:
            with urlopen(f"{place.rstrip('/')}/{quote(name)}", timeout=SECONDS) as answer:
                return bytes(answer.read(LARGEST))

        return fetch
    return lambda name: (Path(place) / name).read_bytes()


def health(fetch: Fetch, *, days: int, most: int, now: datetime | None = None) -> Health:
    """Follows a board's own links from its front page, folder by folder in turn.

    Args:
        fetch: a name below the board -> its bytes; OSError where it does not answer.
        days: how old the newest outcome may be.
        most: files that are looked at.
        now: the time.
    """
    found, seen, waiting = Health(), {START, RESULTS}, {"": deque([START, RESULTS])}
    while found.pages < most and any(waiting.values()):
        for room in [room for room, names in waiting.items() if names]:  # in turn: none takes all that is looked at
            if found.pages == most:
                break
            name = waiting[room].popleft()
            try:
                data = fetch(name)
            except (OSError, URLError) as error:
                found.problems.append(f"{name} does not answer: {error}")
                continue
            found.pages += 1
            for link in dict.fromkeys(_look(name, data, found)):
                if link not in seen:
                    seen.add(link)
                    waiting.setdefault(link.rpartition("/")[0].partition("/")[0], deque()).append(link)
    age = None if found.newest is None else (now or datetime.now(UTC)) - found.newest
    if age is None:
        found.problems.append("no outcome was found")
    elif age > timedelta(days=days):
        found.problems.append(f"the newest outcome is {age.days} days old, {days} are allowed")
    return found


def _look(name: str, data: bytes, found: Health) -> list[str]:
    """What is wrong with a file goes to `found`; its links within the board come back."""
    try:
        if name.endswith(".html"):
            parser = _Links()
            parser.feed(data.decode())
            return [link for link in (_within(name, raw) for raw in parser.found) if link]
        if name.endswith(".json"):
            record = json.loads(data)
            if name == RESULTS and not (isinstance(record, list) and record):
                found.problems.append(f"{name} holds no rows")
            if name.startswith("outcomes/") and "samples" in record:
                outcome = Outcome.model_validate_json(data, strict=True)
                made = outcome.provenance.made
                made = made if made.tzinfo else made.replace(tzinfo=UTC)
                found.outcomes += 1
                found.newest = max(found.newest or made, made)
    except ValueError as error:
        found.problems.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}")
    return []


def _within(page: str, raw: str) -> str:
    """A link as a name below the board; empty where it leads elsewhere."""
    parts = urlsplit(raw)
    if parts.scheme or parts.netloc or not parts.path:
        return ""
    name = normpath(join(dirname(page), unquote(parts.path)))
    return "" if name.startswith("..") else name
