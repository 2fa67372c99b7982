"""Texts that somebody chose (labels, names, paths), made safe for where they are shown."""

import re

# With an escape sequence a label could clear a terminal, or name and colour things in it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but the tab and the line's end
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
# Marks of Markdown inside a line. An underscore inside a word is none.
_MARKS = re.compile(r"[\\`*\[\]~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def show_control(text: str, *, one_line: bool = False, colours: bool = False) -> str:
    r"""Text whose control characters are written out, as ``\x1b``, and do nothing.

    Args:
        one_line: tabs and line ends are written out too.
        colours: sequences that set colours stay.
    """
    if colours:
        parts = _COLOUR.split(text)
        return "".join(part if index % 2 else show_control(part) for index, part in enumerate(parts))
    if one_line:
        text = text.replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no marks, no tags, no end of a table's cell."""
    plain = _MARKS.sub(r"\\\g<0>", show_control(" ".join(text.split())))
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        plain = plain.replace(mark, entity)
    return plain


def code_span(text: str) -> str:
    """Text as code inside a line of Markdown, whatever backticks it holds."""
    text = show_control(" ".join(text.split()))
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"
