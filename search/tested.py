"""What a winner answered on its test set, kept for the report on its job. No search reads it.

Two files a study, in the storage and not in the bundle, which is passed on: `outputs.safetensors` has a row
for each test row, and `answers.json` what is known of the data and the texts of the worst mistakes. Whoever
wants no texts of theirs to lie there deletes the second one: the report then does without.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from pipelines.encoder.tokens import Tokens
from pipelines.method import HeldOut
from pipelines.metrics import METRICS, metrics_for
from pipelines.tasks.encoded import EncodedTask
from pipelines.tasks.kind import Targets
from pipelines.tasks.rows import TaskData
from search.storage import Storage, answers_key

FORMAT = 1
OUTPUTS, ANSWERS = "outputs.safetensors", "answers.json"
MOST_CLASSES = 20  # mistakes whose texts are kept
MOST_OTHERS = 12
MOST_CHARACTERS = 400  # of a text, and of an answer
Form = Literal["classes", "numbers", "answers"]
# By what a kind's metrics read of its outputs (`Metric.of`): how its test set is looked at.
_FORMS: dict[str, Form] = {
    "labels": "classes",
    "probabilities": "classes",
    "numbers": "numbers",
    "answers": "answers",
}
_VIEWS = {"classes": "probabilities", "numbers": "numbers", "answers": "answers"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answers:
    """What came out of the test set, as a worker hands it over.

    Attributes:
        predicted: the view of the outputs that the form has: probabilities (rows, classes), numbers (rows,),
            or a text for each row.
        references: what these are compared with, row by row.
        counts: rows of each class, by split; none without classes.
        truncated: by split, the share of texts that reach the limit of tokens, where they are cut.
    """

    form: Form
    predicted: Any
    references: Any
    counts: Mapping[str, list[int]]
    truncated: Mapping[str, float]


@dataclass(frozen=True)
class Mistake:
    """A test row that the winner got wrong.

    Attributes:
        row: of the test set, from 0.
        text: cut.
        score: how sure the answer was, how far off the number is, or the row's own score.
    """

    row: int
    text: str
    expected: str
    answered: str
    score: float


@dataclass(frozen=True, eq=False)
class KeptAnswers:
    """What is kept of a study.

    Attributes:
        predicted: probabilities (rows, classes), numbers (rows,), or each row's own score (rows,).
        targets: class indices, numbers; empty for answers.
        lengths: characters of each row's texts; empty where they are not known.
        sizes: rows by split.
        notes: what was done to the rows, and what is odd about them.
    """

    form: Form
    predicted: NDArray[Any]
    targets: NDArray[Any]
    lengths: NDArray[Any]
    labels: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, list[int]] = field(default_factory=dict)
    truncated: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int = 0
    notes: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


def form_of(kind: str) -> Form | None:
    """How the test set of a kind is looked at; None for a kind of which that is not known."""
    read = [METRICS[name].of for name in metrics_for(kind)]
    return next((_FORMS[of] for of in read if of in _FORMS), None)


def answers_of(
    task: EncodedTask, outputs: NDArray[np.float64], targets: Targets, texts: HeldOut
) -> Answers | None:
    """What a winner's outputs on the test set say; None for a kind of which that is not known.

    Args:
        texts: of the test set, as its method reads them.
    """
    try:
        return _answers(task, outputs, targets, texts)
    except Exception:  # a kind of somebody else's: the search has its winner all the same
        log.warning("%s: what its winner answers on test cannot be told", task.name, exc_info=True)
        return None


def _answers(
    task: EncodedTask, outputs: NDArray[np.float64], targets: Targets, held_out: HeldOut
) -> Answers | None:
    form = form_of(task.kind)
    if form is None:
        return None
    rules, texts = task.rules, {"train": task.train, "validation": task.validation}
    if isinstance(held_out, Tokens):  # towers read words, or each column by itself
        texts["test"] = held_out
    counts = {}
    if form == "classes":
        found = {"train": task.train_targets, "validation": task.validation_targets, "test": targets}
        counts = {name: np.bincount(own, minlength=task.outputs).tolist() for name, own in found.items()}
    return Answers(
        form,
        rules.view(_VIEWS[form], outputs, targets, task.scale),
        rules.references(targets),
        counts,
        {}  # of windows none is cut
        if rules.per_token
        else {name: float(np.mean(own.lengths >= task.max_tokens)) for name, own in texts.items()},
    )


def keep_answers(
    storage: Storage, job: str, method: str, data: TaskData, max_tokens: int, found: Answers | None
) -> None:
    """Keep what a winner answered; where it cannot be told, say so and go on.

    Raises:
        OSError: the storage cannot be written.
    """
    if found is None:
        return
    try:
        tested = _kept(data, max_tokens, found)
    except Exception:  # likewise
        log.warning("%s: what its winner answered on test cannot be kept", data.task.name, exc_info=True)
        return
    write_answers(storage, answers_key(job, data.task.name, method), tested)


def write_answers(storage: Storage, key: str, tested: KeptAnswers) -> None:
    """Write both files."""
    arrays = {
        name: np.ascontiguousarray(getattr(tested, name)) for name in ("predicted", "targets", "lengths")
    }
    facts = {name: value for name, value in asdict(tested).items() if name not in arrays}
    storage.write(f"{key}/{OUTPUTS}", safetensors.numpy.save(arrays, {"form": tested.form}))
    storage.write(f"{key}/{ANSWERS}", json.dumps({"format": FORMAT, **facts}).encode())


def read_answers(storage: Storage, key: str) -> KeptAnswers | None:
    """What was kept of a study; None where nothing was, or where it cannot be read any more."""
    try:
        outputs, answers = storage.read(f"{key}/{OUTPUTS}"), storage.read(f"{key}/{ANSWERS}")
        if outputs is None:
            return None
        arrays: dict[str, Any] = safetensors.numpy.load(outputs)
        header = json.loads(outputs[8 : 8 + int.from_bytes(outputs[:8], "little")])
        facts = {"form": header["__metadata__"]["form"]} if answers is None else json.loads(answers)
        if facts.pop("format", FORMAT) > FORMAT:
            return None
        for name in ("labels", "notes"):
            facts[name] = tuple(facts.get(name, ()))
        facts["mistakes"] = tuple(Mistake(**one) for one in facts.get("mistakes", ()))
        return KeptAnswers(**arrays, **facts)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
        log.debug("%s cannot be read", key, exc_info=True)
        return None


def _kept(data: TaskData, max_tokens: int, found: Answers) -> KeptAnswers:
    texts = data.rules.texts(data.test)
    predicted, targets = found.predicted, np.asarray([])
    if found.form == "answers":
        metric = METRICS[data.task.metric]
        predicted = np.array(
            [metric.score([one], [own]) for one, own in zip(predicted, found.references, strict=True)]
        )
    else:
        targets = np.asarray(found.references)
    return KeptAnswers(
        form=found.form,
        predicted=predicted.astype(np.float32) if found.form == "classes" else predicted,
        targets=targets,
        lengths=np.array([sum(map(len, text)) for text in texts], dtype=np.int32),
        labels=data.labels,
        sizes={name: len(getattr(data, name)) for name in ("train", "validation", "test")},
        counts=found.counts,
        truncated=found.truncated,
        max_tokens=max_tokens,
        notes=data.notes,
        mistakes=tuple(_mistakes(found, predicted, targets, texts, data.labels)) if texts else (),
    )


def _mistakes(
    found: Answers,
    predicted: NDArray[Any],
    targets: NDArray[Any],
    texts: Sequence[tuple[str, ...]],
    labels: Sequence[str],
) -> list[Mistake]:
    """The worst first: the surest wrong classes, the numbers farthest off, the answers of the least score."""
    if found.form == "classes":
        chosen, sure = predicted.argmax(axis=1), predicted.max(axis=1)
        wrong = np.flatnonzero(chosen != targets)
        rows = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_CLASSES]
        said = [(labels[targets[row]], labels[chosen[row]], sure[row]) for row in rows]
    elif found.form == "numbers":
        off = predicted - targets
        rows = np.argsort(-np.abs(off), kind="stable")[:MOST_OTHERS]
        said = [(f"{targets[row]:.4g}", f"{predicted[row]:.4g}", off[row]) for row in rows]
    else:
        rows = np.argsort(predicted, kind="stable")[:MOST_OTHERS]
        rows = rows[predicted[rows] < 1]
        said = [
            (" / ".join(dict.fromkeys(found.references[row])), found.predicted[row], predicted[row])
            for row in rows
        ]
    return [
        Mistake(int(row), _cut(" | ".join(texts[row])), _cut(expected), _cut(answered), float(score))
        for row, (expected, answered, score) in zip(rows, said, strict=True)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
