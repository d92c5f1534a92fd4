"""Words of others on a terminal: a catalog's ids and attributes, file names, what a server or a damaged file said.

A terminal obeys what it prints. ESC ] sets the window's title, ESC [ moves the cursor over what was written before, C1
controls do the same in one character, a bidirectional override turns words around. So nothing of theirs is printed as
it is: each such character becomes its number, and the rest stays readable.
"""

from __future__ import annotations

import re

# C0 without tab and line feed, DEL, C1; line and paragraph separators; bidirectional controls; lone surrogates.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINE = re.compile(f"[\t\n{_CONTROLS}]")
_IN_TEXT = re.compile(f"[{_CONTROLS}]")


def one_line(words: str) -> str:
    r"""Words that stay within their line and their cell: breaks and tabs become numbers too, as \x0a and \x09."""
    return _IN_LINE.sub(_number, words)


def plain_text(text: str) -> str:
    r"""Text of several lines, its line breaks and tabs kept: ESC becomes \x1b, a right-to-left override \u202e."""
    return _IN_TEXT.sub(_number, text)


def plain_json(document: str) -> str:
    r"""A JSON document without raw control characters, equal to the one given when it is parsed.

    In JSON they stand only inside strings, where \u009b says the same; json.dumps escapes C0 alone, with
    `ensure_ascii=False`.

    Args:
        document: As a serialiser wrote it; line breaks between its values stay.
    """
    return _IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _number(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
