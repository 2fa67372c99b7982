"""What the GLUE server takes (gluebenchmark.com): a zip of TSV files with predictions for its test sets."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import InputError
from pipelines.tasks.readers import READERS, read_columns, read_hub
from pipelines.tasks.registry import registered_hub, registered_task
from search.commands import command
from search.errors import UserError

if TYPE_CHECKING:
    from pipelines.bundle import Prediction
    from pipelines.bundle_files import BundleConfig
    from pipelines.encoder.backbone import Backbone

_ENTAILMENT = {"entailment": "entailment", "not_entailment": "not_entailment"}
_INFERENCE = {word: word for word in ("entailment", "neutral", "contradiction")}


@dataclass(frozen=True, kw_only=True)
class ServerFile:
    """One file of a submission.

    Attributes:
        task: whose bundle predicts it.
        words: the server's word for each class; empty: a score from 0 to 5.
        rows: of the server's test set.
        folder, name: in ``data_dir``, ``<folder>/<name>.parquet`` (or csv, tsv, jsonl) holds the texts.
        split, config: where they are in the Hub's ``nyu-mll/glue``.
    """

    file: str
    task: str
    words: Mapping[str, str]
    rows: int
    name: str = "unlabelled"
    split: str = "test"
    folder: str = ""
    config: str = ""
    optional: bool = False


FILES = (
    ServerFile(file="CoLA.tsv", task="glue_cola", rows=1_063, words={"unacceptable": "0", "acceptable": "1"}),
    ServerFile(file="SST-2.tsv", task="glue_sst2", rows=1_821, words={"negative": "0", "positive": "1"}),
    ServerFile(
        file="MRPC.tsv", task="glue_mrpc", rows=1_725, words={"not_equivalent": "0", "equivalent": "1"}
    ),
    ServerFile(file="STS-B.tsv", task="glue_stsb", rows=1_379, words={}),
    ServerFile(file="QQP.tsv", task="glue_qqp", rows=390_965, words={"not_duplicate": "0", "duplicate": "1"}),
    ServerFile(file="MNLI-m.tsv", task="glue_mnli", rows=9_796, words=_INFERENCE, split="test_matched"),
    ServerFile(
        file="MNLI-mm.tsv",
        task="glue_mnli",
        rows=9_847,
        words=_INFERENCE,
        name="unlabelled_mismatched",
        split="test_mismatched",
    ),
    ServerFile(file="QNLI.tsv", task="glue_qnli", rows=5_463, words=_ENTAILMENT),
    ServerFile(file="RTE.tsv", task="glue_rte", rows=3_000, words=_ENTAILMENT),
    ServerFile(file="WNLI.tsv", task="glue_wnli", rows=146, words={"not_entailment": "0", "entailment": "1"}),
    ServerFile(  # the diagnostic set, predicted by MNLI's bundle
        file="AX.tsv",
        task="glue_mnli",
        rows=1_104,
        words=_INFERENCE,
        folder="glue_ax",
        config="ax",
        optional=True,
    ),
)
TASKS = tuple(dict.fromkeys(one.task for one in FILES))


def select_entries(
    entries: Sequence[Mapping[str, Any]], jobs: str, options: Sequence[str] = ()
) -> list[Mapping[str, Any]]:
    """The finished GLUE studies among the results of some jobs (entries of ``results --json``).

    Args:
        options: by which a command finds the jobs, such as --storage.

    Raises:
        UserError: a task is missing or has no bundle: the server takes all of GLUE or nothing.
    """
    for whose, what in (
        ({entry["task"] for entry in entries}, "Search these tasks as well, and name all the jobs."),
        (
            {entry["task"] for entry in entries if entry["state"] == "finished"},
            f"Their search is not finished: `{command('resume', 'NAME', *options)}` goes on.",
        ),
    ):
        missing = [task for task in TASKS if task not in whose]
        if missing:
            raise UserError(
                f"a submission needs a bundle of {', '.join(missing)}, and {jobs} has none. {what}"
            )
    return [entry for entry in entries if entry["task"] in TASKS and entry["state"] == "finished"]


def write_submission(
    bundles: Mapping[str, Path], out: Path, *, data_dir: Path | None = None, backbone: str | None = None
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Predict the server's test sets and write the zip.

    Everything is checked before the first prediction.

    Args:
        bundles: the folder of each GLUE task's bundle.
        data_dir: looked into for the test sets before the Hub.
        backbone: where the encoder is now, if not where the bundles say.

    Returns:
        Rows by file; and the optional files that were left out, each with its reason.

    Raises:
        UserError: a task is missing, a bundle has a label that the server does not know, a test set is not
            the server's, or the file is there already.
        InputError, BundleError: a test set or a bundle cannot be read.
    """
    from pipelines.bundle import AdapterBundle
    from pipelines.bundle_files import read_files

    if out.exists():
        raise UserError(f"{out} exists already. Choose another --out, or remove it first.")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is no folder. Make it, or choose another --out.")
    missing = [task for task in TASKS if task not in bundles]
    if missing:
        raise UserError(f"a submission needs a bundle of {', '.join(missing)}: the server takes all of GLUE.")
    configs = {task: read_files(folder).config for task, folder in bundles.items() if task in TASKS}
    for one in FILES:
        _check_bundle(one, configs[one.task])
    texts: dict[str, list[tuple[str, ...]]] = {}
    left_out: list[str] = []
    for one in FILES:
        try:
            texts[one.file] = _read_texts(one, data_dir)
        except InputError as error:
            if not one.optional:
                raise
            left_out.append(f"{one.file}: {error}")

    encoders: dict[str, Backbone] = {}
    contents: dict[str, str] = {}
    for task in TASKS:
        loaded = encoders.get(configs[task].backbone_fingerprint)
        bundle = AdapterBundle.load(bundles[task], backbone=loaded or backbone)
        encoders[bundle.backbone.fingerprint] = bundle.backbone
        for one in FILES:
            if one.task == task and one.file in texts:
                single = [row[0] if len(row) == 1 else row for row in texts[one.file]]
                contents[one.file] = tsv(one, bundle.predict(single))
    with zipfile.ZipFile(out, "x", compression=zipfile.ZIP_DEFLATED) as archive:
        for one in FILES:
            if one.file in contents:
                archive.writestr(one.file, contents[one.file])
    return {name: len(rows) for name, rows in texts.items()}, tuple(left_out)


def tsv(one: ServerFile, predictions: "list[Prediction]") -> str:
    """The file's content: ``index`` and ``prediction``, rows counted from 0."""
    words = (
        one.words[str(prediction.label)]
        if one.words
        else f"{min(5.0, max(0.0, float(prediction.label))):.3f}"
        for prediction in predictions
    )
    return "".join(["index\tprediction\n", *(f"{row}\t{word}\n" for row, word in enumerate(words))])


def _check_bundle(one: ServerFile, config: "BundleConfig") -> None:
    expected = registered_task(one.task).kind
    if expected != config.kind:
        raise UserError(f"{one.task}: {one.file} needs a {expected}, and the bundle's is a {config.kind}.")
    unknown = [label for label in config.labels if label not in one.words]
    if unknown:
        raise UserError(
            f"{one.task}: the GLUE server knows no label {unknown[0]!r} for {one.file}; it knows "
            f"{', '.join(map(repr, one.words))}. Train on data with these labels."
        )


def _read_texts(one: ServerFile, data_dir: Path | None) -> list[tuple[str, ...]]:
    task = registered_task(one.task)
    folder = (data_dir / (one.folder or one.task)) if data_dir else None
    paths = [path for ending in READERS if folder and (path := folder / f"{one.name}{ending}").exists()]
    if paths:
        source = str(paths[0])
        columns = read_columns(source, dict.fromkeys(task.text, "--data-dir"), "--data-dir")
    else:
        hub = registered_hub(one.task)
        if hub is None:
            raise UserError(f"{one.task} is not on the Hub. Put {one.name}.parquet into --data-dir.")
        config = one.config or hub.config
        source = f"{hub.path} {config} {one.split}"
        hub = replace(hub, config=config, train=one.split, validation=None, test=None)
        columns = read_hub(hub, replace(task, also=()), f"{one.file}.hub")["train"].texts
    rows = [tuple(cell or "" for cell in row) for row in zip(*columns, strict=True)]
    if len(rows) != one.rows:
        raise UserError(
            f"{one.file}: {source} has {len(rows):,} rows, the server's test set {one.rows:,}. "
            "Give the whole of GLUE's own test set, in its order."
        )
    return rows
