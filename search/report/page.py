"""A report as one page to look at: HTML that needs nothing from elsewhere, and Markdown with its images."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from search.escapes import escape_markdown
from search.report.series import FigureData, Missing
from search.report.tables import Table

# Nothing is loaded from anywhere and nothing runs: whoever opens the page sees what was written.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1200px;
       margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; }
td:first-child, th:first-child, td.text, th.text { text-align: left; }
td.long { white-space: normal; min-width: 16rem; }
tr.paper td { color: #555; background: #f6f6f6; }
p.note, figcaption { color: #444; font-size: .9rem; max-width: 60rem; }
figure { margin: 0; } img { max-width: 100%; height: auto; }
"""
LONG = 30  # characters, from which a cell may break


@dataclass(frozen=True)
class Content:
    """What a page shows, in this order.

    Attributes:
        missing: the paper's figures that could not be drawn, and why.
        details: tables for whoever wants to know where the numbers come from.
    """

    title: str
    summary: str
    tables: tuple[Table, ...]
    figures: tuple[FigureData, ...]
    missing: tuple[Missing, ...]
    details: tuple[Table, ...]


def html_page(content: Content, images: Mapping[str, bytes]) -> str:
    """One self-contained page.

    Args:
        images: the SVG of each figure by its key.
    """
    body = [f"<h1>{escape(content.title)}</h1>", f"<p>{escape(content.summary)}</p>"]
    body += [_html_table(table) for table in content.tables]
    for figure in content.figures:
        source = base64.b64encode(images[figure.key]).decode()
        body.append(
            f"<h2>{escape(figure.title)}</h2>\n<figure><img alt='{escape(figure.title)}' "
            f"src='data:image/svg+xml;base64,{source}'>\n"
            f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        )
    if content.missing:
        body.append("<h2>Figures left out</h2>\n<ul>")
        body += [f"<li>{escape(_left_out(one))}</li>" for one in content.missing]
        body.append("</ul>")
    body += [_html_table(table) for table in content.details]
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        "<meta name='viewport' content='width=device-width'>\n"
        f"<title>{escape(content.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def markdown_page(content: Content) -> str:
    """The same in Markdown, with the images beside it."""
    parts = [f"# {escape_markdown(content.title)}", escape_markdown(content.summary)]
    parts += [_markdown_section(table) for table in content.tables]
    for figure in content.figures:
        name = escape_markdown(figure.title)
        parts.append(f"## {name}\n\n![{name}]({figure.key}.png)\n\n{escape_markdown(figure.caption)}")
    if content.missing:
        lines = [f"- {escape_markdown(_left_out(one))}" for one in content.missing]
        parts.append("## Figures left out\n\n" + "\n".join(lines))
    parts += [_markdown_section(table) for table in content.details]
    return "\n\n".join(parts) + "\n"


def _left_out(one: Missing) -> str:
    return f"{one.title}: {one.reason}. Needed: {one.needed}."


def _html_table(table: Table) -> str:
    texts = _text_columns(table)
    heads = "".join(
        f"<th{_class(['text'] * texts[i])}>{escape(head)}</th>" for i, head in enumerate(table.heads)
    )
    rows = []
    for row in table.rows:
        cells = []
        for index, cell in enumerate(row):
            classes = ["text"] * texts[index] + ["long"] * (texts[index] and len(cell) > LONG)
            cells.append(f"<td{_class(classes)}>{escape(cell)}</td>")
        paper = any(cell.startswith("paper: ") for cell in row[:2])
        rows.append(f"<tr{_class(['paper'] * paper)}>{''.join(cells)}</tr>")
    notes = "".join(f"\n<p class='note'>{escape(note)}</p>" for note in table.notes)
    return (
        f"<h2>{escape(table.title)}</h2>\n<div class='wide'><table>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n" + "\n".join(rows) + f"\n</tbody></table></div>{notes}"
    )


def _markdown_section(table: Table) -> str:
    rules = ["---" if text else "---:" for text in _text_columns(table)]
    rows = "\n".join(_markdown_row(row) for row in (table.heads, rules, *table.rows))
    return "\n\n".join(
        [f"## {escape_markdown(table.title)}", rows, *(escape_markdown(note) for note in table.notes)]
    )


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape_markdown(cell) for cell in cells)} |"


def _text_columns(table: Table) -> list[bool]:
    """Which columns hold words, not numbers."""
    columns = list(zip(*table.rows, strict=True))
    return [
        not any(cell[:1].isdigit() for cell in column) or "=" in "".join(column) for column in columns
    ] or [True] * len(table.heads)


def _class(names: Sequence[str]) -> str:
    return f" class='{' '.join(names)}'" if names else ""
