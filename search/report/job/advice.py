"""What to try next, as commands that can be typed as they stand."""

import json
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from search.commands import command, predict_command, storage_options
from search.report.job.html import Figure, Html, Section, code, paragraph
from search.report.job.view import StudyView
from search.secrets import HIDDEN
from search.storage import Storage

FEW_ROWS = 500  # of validation, with which close trials are told apart by luck
LATE = 2 / 3  # of the trials, after which a best one says that the search was not over
ENCODERS = ("bert-base-uncased", "roberta-base")


class Step(NamedTuple):
    """Something to do, and how."""

    words: str
    command: str


def advice(views: Sequence[StudyView], job: str, storage: Storage) -> Section:
    """The last part of the page."""
    parts: list[Html | Figure] = []
    for step in steps(views, job, storage):
        parts += [paragraph(step.words), code(step.command)]
    return Section("What to try next", parts)


def steps(views: Sequence[StudyView], job: str, storage: Storage) -> list[Step]:
    """What makes sense after these studies, the use of what was found first."""
    where, first = storage_options(storage), views[0].facts
    found: list[Step] = []
    if any(view.winner is None for view in views):
        found.append(Step("Go on with the search:", command("resume", job, *where)))
    winners = [view for view in views if view.winner is not None]
    if winners and storage.is_folder:
        view = winners[0]
        words = f"Ask the winner of {view.task} for its answer to a text of yours:"
        found.append(Step(words, predict_command(view.bundle, *_kind_and_text(view))))
    if len(winners) == len(views):
        words = "Copy the best bundle of each task to a folder, to be passed on:"
        found.append(Step(words, command("export", job, "--out", "adapters", *where)))
    if first.job.get("tracking", {}).get("uri") is None and storage.is_folder:
        found.append(
            Step("Look at every trial in MLflow:", command("ui", *storage_options(Storage(storage.root))))
        )
    if _is_readable(job, storage, views):
        found += _further_jobs(views, job, storage)
    return found


def _kind_and_text(view: StudyView) -> tuple[str, Sequence[str]]:
    for task in view.facts.content.get("tasks", ()):
        if task["name"] == view.task:
            return str(task["kind"]), tuple(task["text"])
    return "classification", ("text",)


def _is_readable(job: str, storage: Storage, views: Sequence[StudyView]) -> bool:
    """Whether the job's own file can be the start of another."""
    return (
        storage.is_folder and storage.has(f"{job}/job.json") and HIDDEN not in json.dumps(views[0].facts.job)
    )


def _further_jobs(views: Sequence[StudyView], job: str, storage: Storage) -> list[Step]:
    facts = views[0].facts
    raw: dict[str, Any] = dict(facts.job)
    found = []
    limited = [task["name"] for task in raw.get("tasks", ()) if (task.get("limit") or {}).get("train")]
    if limited:
        words = f"Train on all rows: {', '.join(limited)} had a limit. A job like this one without it:"
        edit = '/^      "limit": {$/,/^      }/s/"train": [0-9][0-9]*/"train": null/'
        found.append(Step(words, _variant(job, "all-rows", storage, edit)))
    few = [view for view in views if 0 < view.facts.sizes.get("validation", 0) < FEW_ROWS]
    if few and raw.get("confirm") is None:
        sizes = ", ".join(f"{view.name} {view.facts.sizes['validation']}" for view in few)
        words = (
            f"Make surer of the choice: validation is small ({sizes} rows), so that the best trial may "
            "be the luckiest. The same search, its leaders run again with further seeds:"
        )
        edit = 's/^  "confirm": null,$/  "confirm": "auto",/'
        found.append(Step(words, _variant(job, "seeds", storage, edit)))
    late = [view for view in views if _came_late(view)]
    trials = raw.get("search", {}).get("trials")
    if late and isinstance(trials, int):
        words = (
            f"Search on: the best trial of {', '.join(view.name for view in late)} came late. Twice the "
            "trials, beginning with what this job has found:"
        )
        edit = f's/^    "trials": {trials},$/    "trials": {2 * trials},/'
        found.append(Step(words, _variant(job, "more-trials", storage, edit)))
    other = next(name for name in ENCODERS if name != facts.encoder)
    words = f"Try another encoder, here {other} (it is fetched from the Hugging Face Hub):"
    edit = f's/^  "backbone": .*$/  "backbone": "{other}",/'
    found.append(Step(words, _variant(job, "encoder", storage, edit)))
    return found


def _came_late(view: StudyView) -> bool:
    best = view.best
    if best is None:
        return False
    first = best.number if best.confirms is None else best.confirms
    return first >= LATE * len(view.searched) >= 4


def _variant(job: str, suffix: str, storage: Storage, edit: str) -> str:
    """A job file made of this job's by one edit, and its check."""
    name = f"{job}-{suffix}"
    rename = f's/^  "name": .*$/  "name": "{name}",/'
    source = shlex.quote(str(storage.path(f"{job}/job.json")))
    made = shlex.quote(f"{name}.json")
    edits = f"-e {shlex.quote(rename)} -e {shlex.quote(edit)}"
    return (
        f"sed {edits} {source} > {made}\n{command('check', f'{name}.json')}\n{command('run', f'{name}.json')}"
    )
