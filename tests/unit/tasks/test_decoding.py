# ruff: noqa: RUF001 - quotes and dashes are what this is about
import pytest

from pipelines.tasks.decoding import from_windows, repair

TEXT = "“it’s £5.8bn” – café, naïve … • ‘quoted’ — ☺ 世界"
COMMON = "“’–…‘—•£é"


def mac_chain(text, last):
    """UTF-8 read as Windows-1252, written as Mac Roman, read as `last`: how published files were broken."""
    return text.encode().decode("cp1252").encode("mac_roman", "replace").decode(last).replace("?", "_")


@pytest.mark.parametrize("char", COMMON)
def test_utf8_that_was_read_as_windows_1252_is_put_right(char):
    assert repair(f"a{char.encode().decode('cp1252')}b") == f"a{char}b"


@pytest.mark.parametrize("last", ["cp1252", "cp1251"])
@pytest.mark.parametrize("char", "“’–…‘—•")
def test_utf8_that_went_by_way_of_mac_roman_is_put_right(char, last):
    assert repair(f"a{mac_chain(char, last)}b") == f"a{char}b"


@pytest.mark.parametrize(
    ("broken", "text"),
    [  # as they stand in the published files
        ("the Senateâ€™s procedural vote", "the Senate’s procedural vote"),
        ("its Â£5.8bn Rights Issue", "its £5.8bn Rights Issue"),
        ("â€œEmployers must nowâ€ù: Zain", "“Employers must now”: Zain"),
        ("the market‰ЫЄs split ‰ЫУ was", "the market’s split — was"),
        ("Hole of the West,‰Ыќ said", "Hole of the West,” said"),
        ("\u2018â€™☺Ã©", "\u2018’☺é"),
    ],
)
def test_what_stands_in_the_published_files_is_put_right(broken, text):
    assert repair(broken) == text


@pytest.mark.parametrize("text", [TEXT, "plain", "", "É® Ü¡ «»", "‰ 5", "â", "ÃÃ", "•À_Green"])
def test_text_that_is_right_or_cannot_be_told_stays(text):
    assert repair(text) == text


def test_repair_is_done_once_and_for_all():
    broken = TEXT.encode().decode("latin-1")
    assert repair(repair(from_windows(broken))) == repair(from_windows(broken)) == TEXT


def test_windows_1252_bytes_read_as_latin_1_become_their_characters():
    assert from_windows(b"it\x92s \x93a\x94 \xa35 \x81".decode("latin-1")) == "it’s “a” £5 \x81"
