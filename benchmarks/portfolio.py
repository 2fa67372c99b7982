"""Make what ships with adaptune as experience: the record's tasks, what is known of them, how trials did.

    python benchmarks/portfolio.py --data-dir ../data

Writes search/portfolio.json, from which search/decisions/portfolio.py chooses a new task's first suggestions.
Validation scores alone are read; where there are several training seeds, regrets are their mean.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from material import MINILM
from record import MAX_TOKENS, OUT, ROWS
from replays import Recorded, read_record

from search.decisions.experience import regrets_of
from search.experience import SHIPPED
from search.job.job import SearchJob
from search.plan import make_plan

DIGITS = 4


def mean_regrets(seeds: Mapping[int, Recorded]) -> dict[tuple[Any, ...], float]:
    """How far each configuration of a task stayed behind, the mean over its training seeds."""
    found: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for grid in seeds.values():
        for params, regret in regrets_of(grid.as_trials()):
            found[tuple(params[name] for name in grid.parameters)].append(regret)
    return {key: sum(regrets) / len(regrets) for key, regrets in found.items()}


def portfolio_json(
    record: Mapping[str, Mapping[int, Recorded]], facts: Mapping[str, Mapping[str, Any]], *, source: str
) -> str:
    """The file's text: readable, a configuration in a line."""
    parameters = next(iter(next(iter(record.values())).values())).parameters
    tasks = []
    for name, seeds in record.items():
        rows = ",\n".join(
            f"    {json.dumps([*key, round(regret, DIGITS)])}" for key, regret in mean_regrets(seeds).items()
        )
        head = json.dumps({"name": name, **facts[name]})[:-1]
        tasks.append(f'  {head}, "regrets": [\n{rows}]}}')
    about = {
        "format": 1,
        "name": f"the portfolio that ships with adaptune ({len(record)} tasks, all-MiniLM-L6-v2)",
        "source": source,
        "method": "adapter",
        "parameters": list(parameters),
    }
    return json.dumps(about)[:-1] + ', "tasks": [\n' + ",\n".join(tasks) + "]}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds <task>/train.parquet, …")
    parser.add_argument("--record", type=Path, default=OUT)
    parser.add_argument("--rows", type=int, default=ROWS, help="training rows of the record")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="of the record's texts")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    record = read_record(options.record)
    job = SearchJob.parse(
        {
            "name": "portfolio",
            "backbone": MINILM,
            "tasks": [{"name": name, "limit": {"train": options.rows}} for name in record],
            "data_dir": str(options.data_dir.resolve()),
            "max_tokens": options.max_tokens,
        },
        folder=Path.cwd(),
    )
    plan = make_plan(job)
    facts = {
        data.task.name: asdict(plan.facts_of(data)) | {"layers": plan.backbone.depth} for data in plan.tasks
    }
    for one in facts.values():
        one["tokens"] = round(one["tokens"], 1)
    source = f"benchmarks/portfolio.py of benchmarks/recorded/{options.record.name}"
    options.out.write_text(portfolio_json(record, facts, source=source), encoding="utf-8")
    print(f"{len(record)} tasks in {options.out}")


if __name__ == "__main__":
    main()
