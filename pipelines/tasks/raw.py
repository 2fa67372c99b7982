"""Read the public files that the registered tasks come from, as they are published.

Every row is either kept or dropped with a reason. Rows are counted from 1, a header not included.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import InputError, nearest
from pipelines.tasks.decoding import from_windows, repair
from pipelines.tasks.parquet import MOST_BYTES
from pipelines.tasks.readers import long_fields
from pipelines.tasks.registry import registered_entry

PLACE = "FILE"  # what errors about the public file name


@dataclass
class RawRows:
    """What a public file holds: texts with our labels, and the rows that are none, each with its reason."""

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # of the kept rows, in the file
    dropped: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, text: str, written: str, labels: Mapping[str, str] | None) -> None:
        """Keep a row, its label by our name for it, or drop it. ``labels`` of None takes every label."""
        label = written.strip() if labels is None else labels.get(written.strip().lower())
        if not text.strip():
            self.dropped.append((number, "no text"))
        elif not written.strip():
            self.dropped.append((number, "no label"))
        elif label is None:
            self.dropped.append((number, f"label {_short(written.strip())!r} is none of the task's classes"))
        else:
            self.texts.append(text)
            self.labels.append(label)
            self.numbers.append(number)


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """A csv file with a header. Columns are found whatever the case, and with spaces for underscores.

    Attributes:
        labels: from the label as written, in lower case, to ours; None: as written, every one of them.
        until: the label as written ends before this; the rest of the cell explains it.
        repaired: put mis-decoded UTF-8 right (`pipelines.tasks.decoding.repair`).
    """

    text: str
    label: str
    labels: Mapping[str, str] | None
    until: str | None = None
    repaired: bool = True

    def read(self, path: Path) -> RawRows:
        """Raises InputError: no csv, no such column, or a field without an end."""
        rows = RawRows()
        lines = iter(csv.reader(_lines(path)))
        try:
            with long_fields(MOST_BYTES):
                header = [_plain(name) for name in next(lines, [])]
                text, label = self._column(header, self.text, path), self._column(header, self.label, path)
                for number, row in enumerate((row for row in lines if row), start=1):
                    if len(row) != len(header):
                        rows.dropped.append((number, f"{len(row)} fields instead of {len(header)}"))
                        continue
                    cell = repair(row[text]) if self.repaired else row[text]
                    written = row[label].split(self.until)[0] if self.until else row[label]
                    rows.add(number, cell, written, self.labels)
        except csv.Error as error:
            fix = "Get the file again, as it was published."
            raise InputError(PLACE, str(path), f"is not valid csv: {error}", fix) from error
        return rows

    def _column(self, header: list[str], name: str, path: Path) -> int:
        wanted = _plain(name)
        if header.count(wanted) != 1:
            what = "several columns" if wanted in header else "no column"
            shown = ", ".join(_short(column) for column in header[:20])
            fix = nearest(wanted, header) if header else "Get the file again, as it was published."
            raise InputError(PLACE, str(path), f"has {what} {name!r}; it has {shown or 'nothing'}", fix)
        return header.index(wanted)


@dataclass(frozen=True, kw_only=True)
class TabFile:
    """A file of tab-separated fields without a header and without quoting."""

    fields: int
    text: int
    label: int
    labels: Mapping[str, str]

    def read(self, path: Path) -> RawRows:
        rows = RawRows()
        for number, line in enumerate(_lines(path), start=1):
            cells = line.rstrip("\r\n").split("\t", self.fields - 1 if self.text == self.fields - 1 else -1)
            if len(cells) == self.fields:
                rows.add(number, cells[self.text], cells[self.label], self.labels)
            elif line.strip():
                rows.dropped.append((number, f"{len(cells)} fields instead of {self.fields}"))
        return rows


@dataclass(frozen=True, kw_only=True)
class PostFolders:
    """Folders of posts, one folder per class, in one or more folders; a post is a Latin-1 file.

    Posts are read in the order of their paths.
    """

    labels: tuple[str, ...]

    def read(self, path: Path) -> RawRows:
        if not path.is_dir():
            fix = "Give the folder that holds 20news-bydate-train and 20news-bydate-test."
            raise InputError(PLACE, str(path), "is not a folder", fix)
        folders = sorted(
            folder for folder in (*path.glob("*/"), *path.glob("*/*/")) if folder.name in self.labels
        )
        missing = sorted({*self.labels} - {folder.name for folder in folders})
        if missing:
            fix = "Give the folder that holds 20news-bydate-train and 20news-bydate-test."
            raise InputError(PLACE, str(path), f"has no folder {missing[0]!r} in it or one below", fix)
        posts = (post for folder in folders for post in sorted(folder.iterdir()) if post.is_file())
        rows = RawRows()
        labels = {label: label for label in self.labels}
        for number, post in enumerate(posts, start=1):
            rows.add(number, post.read_bytes().decode("latin-1"), post.parent.name, labels)
        return rows


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file with their ends; \\r alone is one too. UTF-8, else Windows-1252."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        fix = "Give the file as it was published; docs/tasks.md says which."
        raise InputError(PLACE, str(path), what, fix)
    if path.suffix.lower() in {".zip", ".gz", ".tgz", ".bz2", ".xz"}:
        raise InputError(PLACE, str(path), "is an archive", "Unpack it first, and give the file inside.")
    try:
        is_utf8 = _is_utf8(path)
        with path.open(encoding="utf-8-sig" if is_utf8 else "latin-1", newline="") as file:
            yield from file if is_utf8 else map(from_windows, file)
    except OSError as error:
        fix = "Check the file and its permissions."
        raise InputError(PLACE, str(path), f"cannot be read: {error.strerror or error}", fix) from error


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while piece := file.read(io.DEFAULT_BUFFER_SIZE * 16):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _same(entry: str) -> dict[str, str]:
    """The registered labels as the file has them, but for their case."""
    return {label: label for label in registered_entry(entry).labels}


_RELEVANCE = {"yes": "relevant", "no": "not_relevant"}  # "not sure" is neither
_STANCE = {"against": "against", "for": "for", "neutral": "neutral", "none of the above": "none"}
_OPINION = {"1": "opinion_about_target", "2": "opinion_about_other", "3": "no_explicit_opinion"}
_Q1 = (
    "q1_from_reading_the_tweet_which_of_the_options_below_is_most_likely_to_be_true_about_the_stance_or_"
    "outlook_of_the_tweeter_towards_the_target"
)
_Q2 = "q2_which_of_the_options_below_is_true_about_the_opinion_in_the_tweet"
_COLLECTION = {"b": "business", "e": "entertainment", "m": "health", "t": "science_technology"}

PUBLIC_FILES: dict[str, CsvFile | TabFile | PostFolders] = {  # by task; docs/tasks.md describes the files
    "newsgroups20": PostFolders(labels=registered_entry("newsgroups20").labels),
    "cf_airline": CsvFile(text="text", label="airline_sentiment", labels=_same("cf_airline")),
    "cf_corporate_messaging": CsvFile(text="text", label="category", labels=_same("cf_corporate_messaging")),
    "cf_disasters": CsvFile(
        text="text", label="choose_one", labels={"relevant": "relevant", "not relevant": "not_relevant"}
    ),
    "cf_economic_news_relevance": CsvFile(text="text", label="relevance", labels=_RELEVANCE),
    "cf_emotion": CsvFile(text="content", label="sentiment", labels=_same("cf_emotion")),
    "cf_global_warming": CsvFile(
        text="tweet", label="existence", labels={"yes": "yes", "y": "yes", "no": "no", "n": "no"}
    ),
    "cf_political_audience": CsvFile(text="text", label="audience", labels=_same("cf_political_audience")),
    "cf_political_bias": CsvFile(text="text", label="bias", labels=_same("cf_political_bias")),
    "cf_political_message": CsvFile(text="text", label="message", labels=_same("cf_political_message")),
    "cf_primary_emotions": CsvFile(text="sentence", label="emotion", labels=_same("cf_primary_emotions")),
    "cf_progressive_opinion": CsvFile(text="tweet", label=_Q2, labels=_OPINION, until="."),
    "cf_progressive_stance": CsvFile(text="tweet", label=_Q1, labels=_STANCE, until=":"),
    "cf_us_economic_performance": CsvFile(text="text", label="relevance", labels=_RELEVANCE),
    "customer_complaints": CsvFile(
        text="Consumer complaint narrative", label="Issue", labels=None, repaired=False
    ),
    "news_aggregator": TabFile(fields=8, text=1, label=4, labels=_COLLECTION),
    "sms_spam": TabFile(fields=2, text=1, label=0, labels=_same("sms_spam")),
}
