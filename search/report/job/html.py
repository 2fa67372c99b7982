"""Pieces of the page: everything that somebody chose is escaped here."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from search.escapes import show_control


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


class Figure(NamedTuple):
    """A drawing and what is said below it.

    Attributes:
        key: of its file: best_by_trial.
        caption: may be empty.
    """

    key: str
    title: str
    drawing: str
    caption: str


class Section(NamedTuple):
    """A part of the page under a heading.

    Attributes:
        parts: in the order in which they are read.
    """

    title: str
    parts: Sequence[Html | Figure]


def text(value: object) -> Html:
    """Something as it is to be read."""
    return Html(escape(show_control(str(value))))


def paragraph(words: object, kind: str = "") -> Html:
    """A paragraph; of `kind` "note" it is small."""
    return Html(f"<p{_class(kind)}>{words if isinstance(words, Html) else text(words)}</p>")


def bullets(lines: Sequence[object]) -> Html:
    """A list."""
    items = "".join(f"<li>{line if isinstance(line, Html) else text(line)}</li>" for line in lines)
    return Html(f"<ul>{items}</ul>")


def code(command: str) -> Html:
    """A command, to be copied."""
    return Html(f"<pre tabindex='0'><code>{text(command)}</code></pre>")


def folded(title: str, content: Html) -> Html:
    """What is shown only when it is asked for."""
    return Html(f"<details><summary>{text(title)}</summary>{content}</details>")


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    words: Sequence[int] = (0,),
    kinds: Sequence[str] = (),
) -> Html:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        rows: one of a single cell is a heading for those below it.
        words: the columns that hold words, not numbers.
        kinds: a class for each row.
    """
    head = "".join(
        f"<th scope='col'{_class('words' * (i in words))}>{text(one)}</th>" for i, one in enumerate(heads)
    )
    lines = []
    for place, row in enumerate(rows):
        if len(row) == 1:
            lines.append(f"<tr><th scope='rowgroup' colspan='{len(heads)}'>{_html(row[0])}</th></tr>")
            continue
        cells = "".join(_cell(cell, first=i == 0, words=i in words) for i, cell in enumerate(row))
        lines.append(f"<tr{_class(kinds[place] if kinds else '')}>{cells}</tr>")
    return Html(
        f"<div class='wide' tabindex='0' role='region' aria-label=\"{text(caption)}\"><table>"
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(cell: object, *, first: bool, words: bool) -> str:
    content = _html(cell)
    name = "words" * words + " long" * (words and len(content) > 40)
    if content.startswith("<td"):  # one that brings its own look
        return content
    return f"<th scope='row'{_class(name)}>{content}</th>" if first else f"<td{_class(name)}>{content}</td>"


def _html(cell: object) -> Html:
    return cell if isinstance(cell, Html) else text(cell)


def _class(name: str) -> str:
    return f" class='{name.strip()}'" if name else ""


def figure(one: Figure) -> Html:
    """A drawing on the page."""
    caption = f"<figcaption><b>{text(one.title)}.</b> {text(one.caption)}</figcaption>"
    return Html(f"<figure>{one.drawing}{caption}</figure>")


def render(section: Section, level: int, anchor: str) -> str:
    """A section; figures that follow one another stand side by side where there is room."""
    body, row = [], []
    for part in [*section.parts, None]:
        if isinstance(part, Figure):
            row.append(figure(part))
            continue
        if row:
            body.append(f"<div class='figures'>{''.join(row)}</div>")
            row = []
        if part is not None:
            body.append(part)
    title = f"<h{level} id='{anchor}'>{text(section.title)}</h{level}>"
    return f"<section aria-labelledby='{anchor}'>{title}\n" + "\n".join(body) + "</section>\n"
