"""What a night changed: a page, an Atom feed, Markdown for a pull request. The same outcomes give the same bytes."""

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as xml

from jinja2 import Environment

from .nights import Change, Night, named

ATOM = "http://www.w3.org/2005/Atom"
SHOWN = 200  # lines of a table; the feed and the summary have fewer
TOLD = 20


def write_nights(
    pages: Environment, shared: dict[str, object], found: Night, out: Path, past: Sequence[Night] = ()
) -> None:
    """Writes `nights.html`, `nights.xml` (Atom) and `nights.md` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        found: the newest night.
        out: the site's folder.
        past: those before it, each against the one before, oldest first.
    """
    tables = [
        (name, title, changes, changes[:SHOWN])
        for name, title, changes in (
            ("changed", "Changed beyond the interval", found.changed), ("new", "New", found.new),
            ("vanished", "Vanished", found.vanished), ("moved", "Moved within the interval", found.moved),
        )
    ]  # fmt: skip
    page = pages.get_template("nights.html.j2").render(
        **shared, root="", night=found, tables=tables, shown=SHOWN, past=past
    )
    for name, text in (("html", page), ("xml", to_atom(found, past)), ("md", to_markdown(found))):
        (out / f"nights.{name}").write_text(text, encoding="utf-8")


def to_markdown(found: Night) -> str:
    """A summary for a pull request: verdicts that turned, then cells; long lists are cut, and say so."""
    lines = [f"### Night of {found.made.astimezone(UTC):%d %B %Y}", "", _plain(found.sentence) + ".", ""]
    if found.flips:
        lines += ["| claim | before | now | why |", "|---|---|---|---|"]
        lines += [f"| {_plain(f.claim)} | {f.before} | {f.after} | {_plain(f.reason)} |" for f in found.flips[:TOLD]]
        lines += [*_cut(len(found.flips)), ""]
    for title, changes in (("changed beyond the interval", found.changed), ("new", found.new),
                           ("vanished", found.vanished)):  # fmt: skip
        if changes:
            lines += [f"| {title} | before | now |", "|---|---|---|"]
            lines += [_line(change) for change in changes[:TOLD]]
            lines += [*_cut(len(changes)), ""]
    return "\n".join(lines)


def _line(change: Change) -> str:
    before, after = change.words.split(" → ")
    return f"| {_plain(named(change))} | {before} | {after} |"


def _cut(count: int) -> list[str]:
    return [f"| and {count - TOLD} more |"] if count > TOLD else []


def _plain(text: str) -> str:
    """Text as Markdown shows it, whatever is in it: no table, no link, no HTML, no mention."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]()#|~" else c for c in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")


def to_atom(found: Night, past: Sequence[Night] = ()) -> str:
    """Nights as an Atom feed (RFC 4287), the newest first: the night itself, verdicts that turned, cells that changed.

    An entry's id is made of the night's time and of the name of what it tells, so that it stays whatever is added.
    """
    xml.register_namespace("", ATOM)
    feed = xml.Element(f"{{{ATOM}}}feed")
    _add(feed, "id", f"urn:uuid:{uuid5(NAMESPACE_URL, 'vlm-gauntlet/nights')}")
    _add(feed, "title", "VLM Gauntlet: what changed")
    _add(feed, "updated", _at(found))
    _add(_add(feed, "author", ""), "name", "VLM Gauntlet")
    _add(feed, "link", "", rel="alternate", href="nights.html")
    for one in (found, *reversed(past)):
        _add_night(feed, one)
    xml.indent(feed, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(feed, encoding="unicode") + "\n"


def _add_night(feed: xml.Element, found: Night) -> None:
    at = _at(found)
    entries = [("", f"Night of {at[:10]}: {found.sentence}", found.sentence)]
    entries += [(f.claim, f"{f.claim}: {f.before} → {f.after}", f.reason) for f in found.flips[:SHOWN]]
    entries += [(named(c), f"{named(c)}: {c.words}", c.words) for c in found.changed[:SHOWN]]
    for name, title, text in entries:
        entry = _add(feed, "entry", "")
        _add(entry, "id", f"urn:uuid:{uuid5(NAMESPACE_URL, f'vlm-gauntlet/nights/{at}/{name}')}")
        _add(entry, "title", title)
        _add(entry, "updated", at)
        _add(entry, "link", "", rel="alternate", href="nights.html")
        _add(entry, "summary", text)


def _at(found: Night) -> str:
    return found.made.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _add(parent: xml.Element, name: str, text: str, **attributes: str) -> xml.Element:
    child = xml.SubElement(parent, f"{{{ATOM}}}{name}", attributes)
    child.text = text or None
    return child
