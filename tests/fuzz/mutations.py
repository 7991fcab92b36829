"""Small wrong changes to good files: what every parser is fed.

A file is first a tree of plain values, in which fields are dropped, doubled, renamed, exchanged and replaced; what is
written of it is then changed byte by byte.
"""

import copy
import csv
import io
import json
import struct
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any

from hypothesis import strategies as st

DEEP = "@deep@"  # becomes brackets in brackets, deeper than any parser can go down
DEPTH = 20_000
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**53 + 1, 2**64, 10**400, -0.0, 0.5, 1e308, float("nan"), float("inf"),
    float("-inf"), "", " ", "0", "nan", "inf", "1/0", "1/255", "1e999999999", "-1/255", "9" * 400, "x" * 20_000,
    "\x00", "a\nb", "\u202e\u200b", "١٢", "\ud800", "🦊" * 50, "../../../etc/passwd", "/dev/zero", "{c}", "{}{0}{x}",
    "2026-01-01T00:00:00Z", "9999-12-31", DEEP, [], [[]], [None], {}, {"": {}}, {"name": "none"}, [1, "1", 1.0],
)  # fmt: skip
OPERATIONS = ("drop", "replace", "replace", "replace", "rename", "double", "swap", "wrap")
SNIPPETS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[" * DEPTH, b'{"a":' * DEPTH, b'"', b"'''", b"\n", b"\r",
    b",", b"=", b"[[", b"]", b"{", b"}", b"NaN", b"1e999", b"-", b"9" * 5000, b"\\u0000", b"\\ud800", b"#", b"\t",
)  # fmt: skip
BYTES = ("cut", "flip", "insert", "zeros", "double", "snippet")
PLACES = st.integers(0, 2**20 - 1)

tree_edits = st.lists(st.tuples(PLACES, st.sampled_from(OPERATIONS), st.sampled_from(VALUES)), max_size=3)
byte_edits = st.one_of(
    st.just([]), st.lists(st.tuples(PLACES, st.sampled_from(BYTES), st.sampled_from(SNIPPETS)), min_size=1, max_size=2)
)
# Half of the files are whole text: what is no JSON at all never gets behind a parser.


def edited(tree: Any, edits: list[tuple[int, str, Any]]) -> Any:
    """A copy of a tree with some changes."""
    tree = copy.deepcopy(tree)
    for place, operation, value in edits:
        slots = list(_slots(tree))
        if not slots:
            break
        inside, key = slots[place % len(slots)]
        if operation == "drop":
            del inside[key]
        elif operation == "replace":
            inside[key] = copy.deepcopy(value)
        elif operation == "wrap":
            inside[key] = [inside[key]] if place % 2 else {"value": inside[key]}
        elif operation == "swap":
            other, there = slots[(place // len(slots)) % len(slots)]
            inside[key], other[there] = copy.deepcopy(other[there]), copy.deepcopy(inside[key])
        elif isinstance(inside, list):
            inside.insert(key, copy.deepcopy(inside[key]))
        else:
            inside[f"{key}x" if operation == "rename" else f"{key}.2"] = copy.deepcopy(inside[key])
            if operation == "rename":
                del inside[key]
    return tree


def _slots(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, dict):
        inner = list(tree.items())
    elif isinstance(tree, list):
        inner = list(enumerate(tree))
    else:
        return
    for key, value in inner:
        yield tree, key
        yield from _slots(value)


def spoiled(data: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """Bytes with some changes."""
    for place, operation, snippet in edits:
        at = place % (len(data) + 1)
        if operation == "cut":
            data = data[:at]
        elif operation == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 + place % 255)]) + data[at + 1 :]
        elif operation == "insert":
            data = data[:at] + bytes([place % 256]) + data[at:]
        elif operation == "zeros":
            data = data[:at] + bytes(512) + data[at + 512 :]
        elif operation == "double":
            data = data[:at] + data
        else:
            data = data[:at] + snippet + data[at:]
    return data


def _encoded(text: str) -> bytes:
    return text.replace(f'"{DEEP}"', "[" * DEPTH + "]" * DEPTH).encode("utf-8", "surrogatepass")


def as_json(tree: Any) -> bytes:
    """JSON as Python writes it: NaN, infinity and halves of surrogate pairs included."""
    return _encoded(json.dumps(tree, default=str))


def as_toml(tree: Any) -> bytes:
    """TOML, each field in one line."""
    if not isinstance(tree, dict):
        return _encoded(f"value = {_toml(tree)}\n")
    return _encoded("".join(f"{_quoted(str(key))} = {_toml(value)}\n" for key, value in tree.items()))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(str(key))} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | datetime):
        return value.isoformat()
    return _quoted(value) if isinstance(value, str) else '""' if value is None else str(value)


def as_csv(tree: Any) -> bytes:
    """CSV of a list of lists."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    for row in tree if isinstance(tree, list) else [tree]:
        writer.writerow(row if isinstance(row, list) else [row])
    return _encoded(out.getvalue())


def as_safetensors(tree: Any) -> bytes:
    """A safetensors file of a header and its data, `[header, data as hex]`."""
    header, data = tree if isinstance(tree, list) and len(tree) == 2 else [tree, ""]
    text = as_json(header)
    body = bytes.fromhex(data) if isinstance(data, str) and _is_hex(data) else b"\x01" * 64
    return struct.pack("<Q", len(text)) + text + body


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and all(c in "0123456789abcdef" for c in text)


def as_bytes(tree: Any) -> bytes:
    """A file that is no tree."""
    return bytes(tree)


Form = Callable[[Any], bytes]
