"""What `adaptune check` shows of a job that can run."""

from rich.console import Console

from search.plan import Plan
from search.tables import format_values


def print_plan(plan: Plan, console: Console) -> None:
    """Print the studies, their data, trials and trained parameters, and what was done to the data."""
    job, frozen = plan.job, plan.backbone.parameters

    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    say(f"{job.name}: {plan.trials} trials, sampler {job.search.sampler}, storage {job.storage}")
    say(f"encoder {plan.backbone.name}: {frozen:,} parameters, frozen; pooling {plan.pooling}")
    for data in plan.tasks:
        say(f"\ntask {data.task.name}: {data.task.kind}, chosen by {data.task.metric}")
        say(f"  {len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test rows")
        if data.labels:
            say(f"  {len(data.labels)} labels: {_short_list(data.labels)}")
        for note in data.notes:
            say(f"  {note}")
        for method in job.methods:
            fewest, most = plan.trained_parameters(method, len(data.labels) or 1)
            many = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
            share = f"at most {most / frozen:.1%} of the encoder's"
            say(f"  {method}: {plan.trials_of(method)} trials of {many} trained parameters, {share}")
    for method in job.methods:
        say(f"\nspace of {method}:")
        for name, values in job.space_for(method).to_dict().items():
            say(f"  {name}: {format_values(values)}")


def _short_list(labels: tuple[str, ...]) -> str:
    return ", ".join(labels[:8]) + (", …" if len(labels) > 8 else "")
