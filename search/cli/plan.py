"""What `adaptune check` shows of a job that can run."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from search.plan import Plan
from search.record import Experience
from search.tables import format_params, format_values


def print_plan(plan: Plan, console: Console, *, experience: Mapping[str, Experience] | None = None) -> None:
    """Print the studies, their data, trials and trained parameters, and what was done to the data.

    Args:
        experience: what each method begins with.
    """
    job, frozen = plan.job, plan.backbone.parameters

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    how = f"sampler {job.search.sampler}, scheduler {job.search.scheduler}"
    say(f"{job.name}: {plan.trials} trials, {how}, storage {job.storage}")
    limits = {name: value for name, value in job.budget.model_dump().items() if value is not None}
    if limits:
        say("budget: " + ", ".join(f"{name} {value:g}" for name, value in limits.items()))
    if job.confirm:
        say(f"then the best {job.confirm.top} with {job.confirm.seeds} seeds")
    say(f"encoder {plan.backbone.name}: {frozen:,} parameters, frozen; pooling {plan.pooling}")
    for name, one in plan.vectors.items():
        say(f"vectors {name}: {len(one.words):,} words, {one.table.shape[1]} numbers each")
    for data in plan.tasks:
        say(f"\ntask {data.task.name}: {data.task.kind}, chosen by {data.task.metric}")
        say(f"  {len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test rows")
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
        learned = (experience or {}).get(method)
        if learned is not None and learned.portfolio:
            say(f"\nexperience of {method}: {len(learned.studies)} studies, {_short_list(learned.studies)}")
            for params in learned.portfolio:
                say(f"  begins with {format_params(params)}")
        say(f"\nspace of {method}:")
        for name, values in job.space_for(method).to_dict().items():
            say(f"  {name}: {format_values(values)}")


def _short_list(labels: Sequence[str]) -> str:
    return ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
