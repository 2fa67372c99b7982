"""What the kinds have in common whose rows are a text, or a pair of them, with a label."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.encoder.tokens import encode
from pipelines.errors import InputError
from pipelines.tasks.cuts import Cut, cut_groups, repeated_rows
from pipelines.tasks.kind import Encoded, Kind
from pipelines.tasks.labelled_rows import Examples, drop_unusable, examples, row_problems
from pipelines.tasks.readers import Table, read_hub, read_table
from pipelines.tasks.task import Hub, Source, Task

if TYPE_CHECKING:
    from pipelines.encoder.backbone import Backbone


class Labelled(Kind, ABC):
    """Texts with labels: read from tables, one row of outputs a text.

    Tables are `Table`, splits `Examples`, targets their labels.
    """

    def read_file(self, path: str, task: Task, key: str) -> Table:
        return read_table(path, task, key)

    def read_hub(self, hub: Hub, task: Task, key: str) -> dict[str, Table]:
        return {name: drop_unusable(table) for name, table in read_hub(hub, task, key).items()}

    def row_problems(self, table: Table, task: Task, source: Source) -> list[InputError]:
        return row_problems(table, task, source)

    def cut(self, train: Examples, counts: Mapping[str, int], seed: int) -> Cut:
        """Stratified by class; where rows have groups, by whole groups instead."""
        if train.groups is not None:
            return cut_groups(train.groups, counts, seed, what="group")
        return super().cut(train, counts, seed)

    def groups(self, split: Examples) -> tuple[str, ...] | None:
        return split.groups

    def examples(self, table: Table, labels: tuple[str, ...]) -> Examples:
        return examples(table, labels)

    def settle(
        self, splits: dict[str, Examples], task: Task, labels: tuple[str, ...], notes: list[str]
    ) -> None:
        notes += repeated_rows({name: split.texts for name, split in splits.items()})

    def texts(self, split: Examples) -> Sequence[tuple[str, ...]]:
        return split.texts

    def content(self, split: Examples) -> list[Any]:
        return [split.texts, split.labels.tolist()]

    def encode_training(self, split: Examples, backbone: "Backbone", max_tokens: int, task: str) -> Encoded:
        return self.encode_held_out(split, backbone, max_tokens)

    def encode_held_out(self, split: Examples, backbone: "Backbone", max_tokens: int) -> Encoded:
        return Encoded(encode(split.texts, backbone.tokenizer, max_tokens), split.labels)

    def encode_texts(self, rows: Sequence[tuple[str, ...]], backbone: "Backbone", max_tokens: int) -> Encoded:
        return Encoded(encode(rows, backbone.tokenizer, max_tokens), None)
