"""The command `check`, and what it shows of a job that can run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from search.cli.terminal import HERE, JobFile, JobStorage, out
from search.commands import command
from search.errors import UserError

if TYPE_CHECKING:
    from search.plan import Plan
    from search.record import Experience

commands = typer.Typer()


@commands.command(rich_help_panel=HERE)
def check(job: JobFile, storage: JobStorage = None) -> None:
    """Show everything wrong with a job file, or what it comes to.

    Reads the data and loads the encoder, starts nothing. Exit code 2 if the job cannot run.
    """
    from search.experience import begin, gather
    from search.job.job import SearchJob
    from search.local.machine import local_problems
    from search.plan import make_plan, name_collisions
    from search.record import Experience
    from search.results import has_record
    from search.storage import Storage
    from search.study import Record

    collisions = name_collisions()
    if collisions:
        raise UserError("\n".join(collisions))
    loaded = SearchJob.load(job, storage=storage)
    plan = make_plan(loaded, source=str(job), problems=local_problems(loaded.resources))
    place = Storage(loaded.storage, loaded.database)
    place.prepare()
    own: dict[str, Experience] = dict.fromkeys(loaded.methods, Experience())
    if has_record(place):
        with Record(place) as record:
            fingerprint = plan.backbone.fingerprint
            own = {
                method: gather(
                    record, loaded, method, fingerprint=fingerprint, vectors=plan.vector_fingerprints
                )
                for method in loaded.methods
            }
    experience = {
        (data.task.name, method): begin(plan, data, method, own[method])
        for data in plan.tasks
        for method in loaded.methods
    }
    print_plan(plan, out, experience=experience)
    start = command("run", str(job), *(["--storage", storage] if storage else []))
    out.print(f"\nStart it with: {start}", soft_wrap=True)


def print_plan(
    plan: "Plan", console: Console, *, experience: Mapping[tuple[str, str], "Experience"] | None = None
) -> None:
    """Print the studies, their data, trials and trained parameters, and what was done to the data.

    Args:
        experience: what each task and method begins with.
    """
    from search.tables import format_params, format_values

    job, frozen = plan.job, plan.backbone.parameters

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    how = f"sampler {job.search.sampler}, scheduler {job.search.scheduler}"
    say(f"{job.name}: {plan.trials} trials, {how}, storage {job.storage}")
    limits = {name: value for name, value in job.budget.model_dump().items() if value is not None}
    if limits:
        say("budget: " + ", ".join(f"{name} {value:g}" for name, value in limits.items()))
    if folds := job.split.folds:
        say(f"{folds} folds: a trial trains {folds} models, in as many steps as {folds - 1} on all rows take")
    for line in _describe_confirming(plan):
        say(line)
    if job.refits:
        say("then the winner again on train and validation: the adapter that is tested and exported")
    say(f"encoder {plan.backbone.name}: {frozen:,} parameters, frozen; pooling {plan.pooling}")
    for name, one in plan.vectors.items():
        say(f"vectors {name}: {len(one.words):,} words, {one.table.shape[1]} numbers each")
    for data in plan.tasks:
        say(f"\ntask {data.task.name}: {data.task.kind}, chosen by {data.task.metric}")
        sizes = {name: f"{len(split):,} {name}" for name, split in data.splits.items()}
        if folds:
            sizes["train"] = f"{len(data.train):,} in {folds} folds"
        say(f"  {', '.join(sizes.values())} rows")
        if data.labels:
            say(f"  {len(data.labels)} labels: {_short_list(data.labels)}")
        for note in data.notes:
            say(f"  {note}")
        for method in job.methods:
            fewest, most = plan.trained_parameters(method, data.outputs, columns=len(data.task.text))
            many = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
            share = f"at most {most / frozen:.1%} of the encoder's"
            say(f"  {method}: {plan.trials_of(method)} trials of {many} trained parameters, {share}")
    for method in job.methods:
        for learned, names in _alike(experience or {}, method):
            source = learned.shipped or f"{len(learned.studies)} studies, {_short_list(learned.studies)}"
            say(f"\nexperience of {method}: {source}")
            of_one = "" if len(names) == len(plan.tasks) else f" on {_short_list(names)}"
            for params in learned.portfolio:
                say(f"  begins{of_one} with {format_params(params)}")
        say(f"\nspace of {method}:")
        for name, values in job.space_for(method).to_dict().items():
            say(f"  {name}: {format_values(values)}")


def _describe_confirming(plan: "Plan") -> list[str]:
    """What is run again with further seeds when a search has ended, and what is not."""
    from pipelines.method import METHODS

    confirm = plan.job.confirm
    if confirm is None:
        return []
    if confirm.counted:
        return [f"then the best {confirm.top} with {confirm.seeds} seeds"]
    methods = [method for method in plan.job.methods if METHODS[method].seeded]
    several = [method for method in methods if plan.trials_of(method) > 1]
    places = [data.task.name for data in plan.tasks if data.rules.per_token]
    lines = []
    if several and len(places) < len(plan.tasks):
        lines.append(
            "then the leaders, where they cannot be told apart, again with further seeds, "
            f"in at most {confirm.budget:.0%} of the search's epochs"
        )
    for method in plan.job.methods:
        if method not in methods:
            lines.append(f"{method} is not run again: another seed changes next to nothing")
        elif method not in several:
            lines.append(f"{method} is not run again: there is one configuration, so nothing to choose")
    for name in places:
        lines.append(f"{name} is not run again: what is predicted of every token is not kept to be compared")
    return lines


def _alike(
    experience: Mapping[tuple[str, str], "Experience"], method: str
) -> list[tuple["Experience", list[str]]]:
    """What a method begins with, each with the tasks that begin so."""
    found: list[tuple[Experience, list[str]]] = []
    for (task, other), learned in experience.items():
        if other == method and learned.portfolio:
            names = next((names for known, names in found if known == learned), None)
            if names is None:
                found.append((learned, [task]))
            else:
                names.append(task)
    return found


def _short_list(labels: Sequence[str]) -> str:
    return ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
