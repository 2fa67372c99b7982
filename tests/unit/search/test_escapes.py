"""What somebody chose is shown, and does nothing where it is shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.escapes import code_span, escape_markdown, show_control


@given(st.text())
def test_nothing_that_is_shown_on_a_terminal_holds_a_control_character(text):
    assert all(unicodedata.category(one) != "Cc" for one in show_control(text, one_line=True))
    assert {one for one in show_control(text) if unicodedata.category(one) == "Cc"} <= {"\n", "\t"}


@pytest.mark.parametrize("text", ["queue", "Größe", "猫と犬", "שלום", "👩‍💻", "a\\b", "tab\tand\nline"])
def test_other_text_is_left_as_it_is(text):
    assert show_control(text) == text


def test_control_characters_are_written_out():
    assert show_control("\x1b[31mred\x07\x9b") == r"\x1b[31mred\x07\x9b"
    assert show_control("a\tb\r\n", one_line=True) == r"a\tb\r\n"


def test_colours_alone_may_stay():
    assert show_control("\x1b[31mred\x1b[0m \x1b[2J", colours=True) == "\x1b[31mred\x1b[0m \\x1b[2J"


@given(st.text())
def test_markdown_of_a_text_is_one_line_without_a_tag_or_a_cells_end(text):
    shown = escape_markdown(text)
    assert len(shown.splitlines()) <= 1
    assert not set("<>|") & set(shown)


@pytest.mark.parametrize(("text", "shown"), [("learning_rate=0.1", "learning_rate=0.1"), ("_a_", r"\_a\_")])
def test_an_underscore_inside_a_word_needs_no_escape(text, shown):
    assert escape_markdown(text) == shown


def test_a_code_span_holds_any_backticks():
    assert code_span("bert") == "`bert`"
    assert code_span("a`b``c") == "``` a`b``c ```"
