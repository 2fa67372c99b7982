"""Read columns of a parquet file in bounded memory: a small file can unpack to more than a machine holds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import InputError

MOST_BYTES = 2 * 10**9  # of one table's texts; Amazon's 3.6 million reviews have 1.5 GB
MOST_CELLS = 20_000_000  # of one column
BATCH_ROWS = 65_536


def read_parquet(path: Path, pick: Callable[[Sequence[str]], Sequence[str]], place: str) -> pa.Table:
    """The columns that ``pick`` chooses of those there are; texts come dictionary-encoded.

    Runs of one text stay as small as they are in the file; what they come to is counted, batch by batch.

    Raises:
        InputError: it is not parquet, or unpacks to more than `MOST_BYTES` of text or `MOST_CELLS` cells.
    """
    try:
        with pq.ParquetFile(path) as plain:
            leaves = [plain.schema.column(index) for index in range(len(plain.schema))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            columns = list(pick(file.schema_arrow.names))
            wanted = {leaf.path for leaf in leaves if leaf.path.partition(".")[0] in columns}
            _check_metadata(file.metadata, wanted, path, place)
            batches, unpacked = [], 0
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                unpacked += sum(_unpacked_bytes(column) for column in batch.columns)
                _check_bytes(unpacked, path, place)
                batch.validate(full=True)  # that texts are UTF-8, among other things
                batches.append(batch)
            schema = pa.schema([field for field in file.schema_arrow if field.name in columns])
            return pa.Table.from_batches(batches, schema=batches[0].schema if batches else schema)
    except (pa.ArrowException, OSError) as error:  # pyarrow's is an OSError, too
        if isinstance(error, OSError) and error.strerror:
            fix = "Check the file and its permissions."
            raise InputError(place, str(path), f"cannot be read: {error.strerror}", fix) from error
        rule = f"is not valid parquet: {str(error).splitlines()[0]}"
        raise InputError(place, str(path), rule, "Write the file again.") from error


def check_table(table: pa.Table, source: str, place: str) -> None:
    """Raise InputError for a table, mapped from its file as yet, of more than `read_parquet` reads."""
    count = sum(_unpacked_bytes(chunk) for column in table.columns for chunk in column.chunks)
    _check_bytes(count, source, place)
    _check_cells(table.num_rows, source, place)


def too_large(source: Path | str, rule: str, place: str) -> InputError:
    """The refusal of a table that memory may not hold."""
    fix = "Keep the rows that are needed, or shorten the texts: the encoder sees max_tokens of each."
    return InputError(place, str(source), rule, fix)


def cells_of(column: pa.ChunkedArray) -> list[Any]:
    """A column's cells as Python has them; a text that comes again is one object."""
    cells: list[Any] = []
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            cells += chunk.to_pylist()
            continue
        used = pc.unique(chunk.indices)
        values = dict(zip(used.to_pylist(), chunk.dictionary.take(used).to_pylist(), strict=True))
        cells += [values[index] for index in chunk.indices.to_pylist()]
    return cells


def _check_metadata(metadata: pq.FileMetaData, wanted: set[str], path: Path, place: str) -> None:
    sizes, counts = 0, dict.fromkeys(wanted, 0)
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema in wanted:
                sizes += chunk.total_uncompressed_size
                counts[chunk.path_in_schema] += chunk.num_values
    _check_bytes(sizes, path, place)
    _check_cells(max(metadata.num_rows, *counts.values(), 0), path, place)


def _check_cells(count: int, source: Path | str, place: str) -> None:
    if count > MOST_CELLS:
        raise too_large(source, f"holds {count:,} cells in a column, more than {MOST_CELLS:,}", place)


def _check_bytes(count: int, source: Path | str, place: str) -> None:
    if count > MOST_BYTES:
        rule = f"unpacks to {count / 1e9:.1f} GB or more, over the {MOST_BYTES / 1e9:g} GB of one table"
        raise too_large(source, rule, place)


def _unpacked_bytes(array: pa.Array) -> int:
    """What an array comes to with its dictionary's texts written out."""
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        array = array.flatten()
    if pa.types.is_struct(array.type):
        return sum(map(_unpacked_bytes, array.flatten()))
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    lengths = pc.binary_length(array.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(array.indices)).as_py() or 0) + int(array.indices.nbytes)
