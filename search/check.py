"""What `adaptune check` shows of a job that can run."""

from rich.console import Console
from rich.table import Table

from search.plan import Plan


def print_plan(plan: Plan, console: Console) -> None:
    """Print the studies, their data, trials and trained parameters, and what was done to the data."""
    job = plan.job
    console.print(
        f"[bold]{job.name}[/bold]: {plan.trials} trials, sampler {job.search.sampler}, on {plan.backbone.name} "
        f"({plan.backbone.parameters:,} frozen parameters, pooling {plan.pooling})",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None)
    for heading in (
        "task",
        "method",
        "kind",
        "metric",
        "train / validation / test",
        "labels",
        "trials",
        "trained",
    ):
        table.add_column(heading)
    for data in plan.tasks:
        for method in job.methods:
            fewest, most = plan.trained_parameters(method, len(data.labels) or 1)
            trained = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
            table.add_row(
                data.task.name,
                method,
                data.task.kind,
                data.task.metric,
                f"{len(data.train):,} / {len(data.validation):,} / {len(data.test):,}",
                _short_list(data.labels) or "numbers",
                str(plan.trials_of(method)),
                trained,
            )
    console.print(table)
    for data in plan.tasks:
        for note in data.notes:
            console.print(f"  {data.task.name}: {note}", highlight=False, soft_wrap=True)
    for method in job.methods:
        console.print(f"space of {method}:")
        for name, values in job.space_for(method).to_dict().items():
            console.print(f"  {name}: {values}", highlight=False)


def _short_list(labels: tuple[str, ...]) -> str:
    shown = ", ".join(labels[:6])
    return shown if len(labels) <= 6 else f"{shown}, … ({len(labels)})"
