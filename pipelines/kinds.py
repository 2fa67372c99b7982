"""The kinds of tasks side by side: how the rows of each are read, and what a trial sees of them."""

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.tokens import EncodedTask, Targets, Tokens, encode_examples
from pipelines.encoder.tokens import encode_task as encode_text_task
from pipelines.encoder.windows import encode_questions, encode_span_task
from pipelines.tasks.rows import TaskData
from pipelines.tasks.rows import read_task as read_text_task
from pipelines.tasks.span_rows import SpanData, read_span_task
from pipelines.tasks.task import SplitRule, Task

Data = TaskData | SpanData


def read_task(task: Task, *, data_dir: str | None = None, split: SplitRule | None = None) -> Data:
    """Read a task's three splits, as `pipelines.tasks.rows.read_task` or `read_span_task` has it.

    Raises:
        InputError, InputErrors: whatever is wrong with the rows.
    """
    read = read_span_task if task.kind == "span" else read_text_task
    return read(task, data_dir=data_dir, split=split)


def encode_task(data: Data, backbone: Backbone, max_tokens: int) -> EncodedTask:
    """Tokenise a task's training and validation sets for one backbone; never the test set.

    Raises:
        InputError: the backbone cannot take texts that long, or a span task's answers need longer ones.
    """
    if isinstance(data, SpanData):
        return encode_span_task(data, backbone, max_tokens)
    return encode_text_task(data, backbone, max_tokens)


def encode_held_out(data: Data, backbone: Backbone, max_tokens: int) -> dict[str, tuple[Tokens, Targets]]:
    """Tokenise, after selection, what no search has seen, each with what its outputs are scored against.

    Returns the test set as "test", and a task's further labelled sets by their names.
    """
    if isinstance(data, SpanData):
        questions = encode_questions(data.test, backbone, max_tokens)
        return {"test": (questions.windows.tokens, questions)}
    return {
        name: (encode_examples(examples, backbone, max_tokens), examples.labels)
        for name, examples in {"test": data.test, **data.also}.items()
    }
