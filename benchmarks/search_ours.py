"""adaptune's default search on the rows of accuracy.py: settings as JSON in, one line out."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from material import rows_task
from ruamel.yaml import YAML

JOB = "accuracy"


def main(settings: dict[str, Any]) -> None:
    files = rows_task(Path(settings["rows"])).files
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "name": JOB,
            "backbone": settings["backbone_folder"],
            "tasks": [{"name": settings["task"], "files": vars(files), "metric": "accuracy"}],
            "max_tokens": settings["max_tokens"],
            "search": {"seed": settings["seed"]},
            "budget": {"minutes": settings["minutes"]},
            "storage": str(Path(folder, "runs")),
        }
        path = Path(folder, "job.yaml")
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(job, file)
        adaptune = Path(sys.executable).parent / "adaptune"
        ended = subprocess.run([adaptune, "run", path], stdout=sys.stderr, check=False).returncode
        if ended:
            raise SystemExit(ended)  # its last line is the reason
        results = [adaptune, "results", JOB, "--storage", job["storage"], "--json"]
        found = subprocess.run(results, check=True, stdout=subprocess.PIPE, text=True)
    (task,) = json.loads(found.stdout)["tasks"]
    if task["best"] is None:
        raise SystemExit(f"the search has no winner: {task['reason'] or task['state']}")
    best, trials = task["best"], {name: count for name, count in task["trials"].items() if count}
    params = ", ".join(f"{name} {value:.3g}" for name, value in sorted(best["params"].items()))
    detail = f"{params}; trials: " + ", ".join(f"{count} {name}" for name, count in trials.items())
    if task["baseline"] is not None:
        detail += f"; its own floor (probe) {100 * task['baseline']['test']:.1f}"
    print(json.dumps({"validation": best["validation"], "test": best["test"], "detail": detail}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
