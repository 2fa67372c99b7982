"""Which files of a folder travel to a cluster: those that are read there, and no others."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath

from pipelines.tasks.readers import READERS
from search.errors import LinkOut

Wanted = Callable[[PurePosixPath], bool]  # whether a file is read, by its path in the folder

_TOKENIZER = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "bpe.codes"),
    *("spiece.model", "spm.model", "tokenizer.model", "sentencepiece.bpe.model"),
}
_DATASET = {".json", ".txt", ".arrow"}  # beside the formats of the table of readers
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}


def is_backbone_file(path: PurePosixPath) -> bool:
    """Configuration, safetensors weights with their index, tokenizer."""
    weights = path.name == "model.safetensors.index.json" or path.suffix == ".safetensors"
    return len(path.parts) == 1 and (path.name == "config.json" or weights or path.name in _TOKENIZER)


def is_class_text(path: PurePosixPath) -> bool:
    """A text of a folder per class: <class>/*.txt."""
    return len(path.parts) == 2 and path.suffix == ".txt"


def is_table_of(splits: Collection[str]) -> Wanted:
    """A task's rows in a data_dir: <split>.parquet and the other forms."""
    return lambda path: len(path.parts) == 1 and path.stem in splits and path.suffix in (*READERS, ".json")


def is_dataset_file(path: PurePosixPath) -> bool:
    """What `datasets` reads of a folder: tables and texts, compressed or not, and the README naming them."""
    ending = PurePosixPath(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix
    return ending in READERS or ending in _DATASET or path.name == "README.md"


def is_none(_: PurePosixPath) -> bool:
    """Where a file is asked for: nothing of a folder."""
    return False


def find_files(folder: Path, wanted: Wanted, *, root: Path | None = None) -> Iterator[Path]:
    """The wanted files below a folder, sorted. Nothing whose name begins with a dot.

    Args:
        root: what no link may lead out of; None: the folder.

    Raises:
        LinkOut: one of them lies elsewhere.
    """
    resolved = (root or folder).resolve()
    levels = ("[!.]*", "[!.]*/[!.]*", "[!.]*/[!.]*/**/*")
    for path in sorted(found for level in levels for found in folder.glob(level)):
        inside = PurePosixPath(path.relative_to(folder))
        if any(part.startswith(".") for part in inside.parts) or not wanted(inside) or not path.is_file():
            continue
        if not path.resolve().is_relative_to(resolved):
            raise LinkOut(path)
        yield path
