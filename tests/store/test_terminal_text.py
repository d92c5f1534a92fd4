from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.terminal_text import one_line, plain_json, plain_text

STRANGE = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F)]))
STRANGE += "".join(map(chr, range(0x2066, 0x206A))) + "\ud800\udfff"
ANY = st.text(st.characters() | st.sampled_from(STRANGE), max_size=30)


@given(ANY)
def test_nothing_that_a_terminal_obeys_is_left(text):
    line = one_line(text)
    assert not set(line) & set(STRANGE)
    assert set(plain_text(text)) & set(STRANGE) <= {"\n", "\t"}
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in line)
    line.encode()  # a lone surrogate cannot be printed at all


@given(ANY.filter(lambda text: not set(text) & set(STRANGE)))
def test_other_text_stays_as_it_is(text):
    assert one_line(text) == plain_text(text) == text


VALUES = st.recursive(st.none() | st.integers() | ANY, lambda one: st.lists(one) | st.dictionaries(ANY, one))


@given(VALUES)
def test_a_json_document_stays_equal(document):
    shown = plain_json(json.dumps(document, indent=2, ensure_ascii=False))
    assert json.loads(shown) == document
    assert set(shown) & set(STRANGE) <= {"\n"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b]0;title\x07", r"\x1b]0;title\x07"), ("\x9b2J", r"\x9b2J"), ("a\u202eb", r"a\u202eb"), ("é漢", "é漢")],
)
def test_a_character_is_shown_by_its_number(text, shown):
    assert one_line(text) == plain_text(text) == shown


def test_breaks_stay_in_text_and_not_in_a_line():
    assert plain_text("a\n\tb\r") == "a\n\tb\\x0d"
    assert one_line("a\n\tb\r") == r"a\x0a\x09b\x0d"
