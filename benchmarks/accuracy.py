"""Test score and wall-clock beside what else people use: same encoder, same rows, same machine.

    python benchmarks/accuracy.py --data-dir ../data --out-dir accuracy                 # all of it: hours
    python benchmarks/accuracy.py --data-dir ../data --out-dir accuracy --rows 200 --tasks sms_spam
    python benchmarks/accuracy.py --data-dir ../data --out-dir accuracy --report accuracy.md  # what is there

Every side runs in a process of its own; its seconds are of that process, Python's start included. What it got
is appended to results.jsonl under --out-dir at once, so that a run that was ended goes on when it is called
again; what failed is tried again then. adaptune is the last one of a task, and its search may take as long as
the slowest of the others did there.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from material import MINILM, backbone_folder, read_rows, write_rows
from peer_env import ENVIRONMENTS, PEER, add_cache_option, peer_python
from tables import Report, versions_in

TASKS = (
    *("sms_spam", "cf_airline", "cf_global_warming"),
    *("cf_political_bias", "cf_progressive_opinion", "news_aggregator"),
)
HELD_OUT_ROWS = 1000  # of validation and of test, at most
MAX_TOKENS = 128  # adaptune's default, for all
SEED = 0
GRACE_SECONDS = 120.0  # to end in, for a side whose time is up
# adaptune's start, the winner's bundle and the floor are beside the search that the budget is of.
AROUND_SEARCH_SECONDS = 1200.0
OURS = "adaptune"
UNMEASURED = "not measured yet"


@dataclass(frozen=True)
class Side:
    """One of those compared.

    Attributes:
        script: gets settings as JSON and prints `{"validation": …, "test": …, "detail": …}` in one line.
        environment: a name of peer_env.py; None: ours.
        settings: added to those that every side gets.
    """

    title: str
    script: Path
    environment: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


# In the order in which they run.
SIDES = {
    "most_frequent": Side("most frequent class", PEER / "most_frequent.py"),
    "logistic": Side("logistic regression", PEER / "logistic_regression.py", "setfit"),
    "adapters": Side("`adapters`", PEER / "train_once.py", "adapters", {"method": "adapters"}),
    "fine_tuning": Side("fine-tuning", PEER / "train_once.py", "adapters", {"method": "fine_tuning"}),
    "autointent": Side("AutoIntent", PEER / "train_autointent.py", "autointent"),
    "setfit": Side("SetFit", PEER / "train_setfit.py", "setfit", {"iterations": 5}),
    OURS: Side("adaptune", Path(__file__).parent / "search_ours.py"),
}

Result = dict[str, Any]  # a line of results.jsonl


class Results:
    """What was measured, as lines of JSON that are only ever added to; the last of a side and task counts.

    A line has `task`, `side`, `rows` (of train), `test_rows`, `seconds`, `minutes` (what it was given),
    `load` (the machine's load average at its end), and either `validation`, `test` and `detail`, or `failed`
    with the reason.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self._path, self._rows = folder / "results.jsonl", rows
        self._known: dict[tuple[str, str], Result] = {}
        if self._path.exists():
            *lines, cut_short = self._path.read_text(encoding="utf-8").split("\n")
            for line in lines:
                self._take(json.loads(line))
            if cut_short:  # whoever wrote it was killed
                self._path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def _take(self, result: Result) -> None:
        if result["rows"] == self._rows:
            self._known[result["task"], result["side"]] = result

    def add(self, result: Result) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        self._take(result)

    def get(self, task: str, side: str) -> Result | None:
        return self._known.get((task, side))

    def slowest_minutes(self, task: str) -> float | None:
        """What the slowest of the peers took on a task; None: none of them has a score there."""
        seconds = [
            result["seconds"]
            for (of, side), result in self._known.items()
            if of == task and SIDES[side].environment is not None and "test" in result
        ]
        return max(seconds) / 60 if seconds else None

    def wants(self, task: str, side: str, minutes: float) -> bool:
        """Whether a side is yet to be measured: it has no score, or has had less time than it should."""
        known = self.get(task, side)
        return known is None or "test" not in known or (side == OURS and known["minutes"] < minutes)


def python_of(side: Side, cache: Path) -> Path:
    """The Python that a side runs with; builds a peer's environment, where it is not there yet."""
    if side.environment is None:
        return Path(sys.executable)
    return peer_python(cache, side.environment)


def run_side(side: Side, python: Path, settings: Mapping[str, Any], seconds: float, log: Path) -> Result:
    """Run a side to its end, or until its time is up; its scores and seconds, or why it has none."""
    cores = str(settings["threads"])
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), cores),
        **dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "1"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [python, side.script, json.dumps(dict(settings))],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            return {
                "seconds": time.perf_counter() - began,
                "failed": f"not done after {seconds / 60:.0f} min",
            }
        except BaseException:
            _end(process)
            raise
    took = time.perf_counter() - began
    lines = [line for line in out.splitlines() if line.startswith('{"')]
    if process.returncode or not lines:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = said[-1][:200] if said else f"exit code {process.returncode}, and no word"
        return {"seconds": took, "failed": reason}
    return {"seconds": took, **json.loads(lines[-1])}


def _end(process: subprocess.Popen[str]) -> None:
    """End a side and what it started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def measure(options: argparse.Namespace, results: Results, task: str) -> None:
    """Measure what is yet to be measured of a task; a side that fails says so, and the others go on."""
    limit = {"train": options.rows, "validation": HELD_OUT_ROWS, "test": HELD_OUT_ROWS}
    data = read_rows(task, options.data_dir, limit)
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(data, Path(folder))
        for name in (name for name in SIDES if name in options.sides):
            side, minutes = SIDES[name], options.minutes
            if name == OURS:
                minutes = results.slowest_minutes(task) or options.minutes
            if not results.wants(task, name, minutes):
                continue
            settings = {
                "task": task,
                "rows": str(rows),
                "backbone_folder": backbone_folder(MINILM),
                "max_tokens": MAX_TOKENS,
                "threads": len(os.sched_getaffinity(0)),
                "seed": SEED,
                "minutes": minutes,
                **side.settings,
            }
            print(f"{task}, {name} …", file=sys.stderr, flush=True)
            seconds = 60 * minutes + (AROUND_SEARCH_SECONDS if name == OURS else 0)
            log = options.out_dir / f"{task}_{name}.log"
            try:
                python = python_of(side, options.peer_cache)
                found = run_side(side, python, settings, seconds, log)
            except subprocess.CalledProcessError as error:
                reason = f"the environment {side.environment} cannot be made (exit code {error.returncode})"
                found = {"seconds": 0.0, "failed": reason}
            place = {"task": task, "side": name, "rows": options.rows, "test_rows": len(data.test)}
            results.add({**place, "minutes": minutes, "load": os.getloadavg()[0], **found})
            print(f"  {found.get('test', found.get('failed'))}, {found['seconds']:.0f} s", file=sys.stderr)


def half_width(score: float, rows: int) -> float:
    """Half of a score's 95 % interval over the test rows (normal approximation)."""
    return 1.96 * math.sqrt(score * (1 - score) / rows)


def fill(report: Report, results: Results, tasks: Sequence[str]) -> None:
    """The report's tables of scores and of seconds; as notes what adaptune found, and what failed."""
    scores: list[list[str]] = []
    seconds: list[list[str]] = []
    measured: dict[str, list[float]] = {name: [] for name in SIDES}  # test scores, one for each task
    loads: list[float] = []
    for task in tasks:
        known = {name: results.get(task, name) for name in SIDES}
        tests = {name: found["test"] for name, found in known.items() if found and "test" in found}
        rows = next((str(found["test_rows"]) for found in known.values() if found), "-")
        width = f"± {100 * half_width(max(tests.values()), int(rows)):.1f}" if tests else "-"
        scores.append([task, rows, *(_cell(known[name], "test", 100, 1) for name in SIDES), width])
        seconds.append([task, *(_cell(known[name], "seconds", 1, 0) for name in SIDES)])
        loads += [found["load"] for found in known.values() if found and "load" in found]
        for name, test in tests.items():
            measured[name].append(test)
        for name, found in known.items():
            if found and "failed" in found:
                report.notes.append(f"{SIDES[name].title} on {task} failed: {found['failed']}.")
            elif found and name == OURS:
                budget = f"{60 * found['minutes']:.0f} s for the search"
                report.notes.append(f"adaptune on {task}, {budget}: {found['detail']}.")
    if len(tasks) > 1:
        means = (f"{100 * mean(of):.1f}" if len(of) == len(tasks) else "-" for of in measured.values())
        scores.append(["mean", "", *means, ""])
    if loads:
        report.facts["Load average at the end of a side"] = f"{min(loads):.1f} to {max(loads):.1f}"
    titles = [side.title for side in SIDES.values()]
    report.add_table(["test accuracy, %", "test rows", *titles, "95 %"], scores)
    report.add_table(["wall-clock, s", *titles], seconds)


def _cell(found: Result | None, key: str, scale: int, digits: int) -> str:
    if found is None:
        return UNMEASURED
    return f"{scale * found[key]:.{digits}f}" if "test" in found else "failed"


def make_report(options: argparse.Namespace, results: Results) -> Report:
    report = Report("Beside what else people use")
    for name, packages in ENVIRONMENTS.items():
        if (options.peer_cache / "peers" / name / "installed").exists():
            python = peer_python(options.peer_cache, name)
            report.facts[f"Environment {name}"] = versions_in(python, packages)
    report.facts["Rows"] = (
        f"at most {options.rows} of train, {HELD_OUT_ROWS} of validation and of test, the same for all; "
        f"MiniLM, texts of {MAX_TOKENS} tokens, one seed"
    )
    report.notes = [
        "Seconds are of a whole process, Python's start included. adaptune's search may take as long as the "
        "slowest of the others; its start, the test of its winner and the bundle come to that.",
        "95 %: half of the best score's interval over the test rows, in points. What differs by less is not "
        "shown to be different.",
        "Logistic regression: scikit-learn on the vectors of sentence-transformers, C by validation. "
        "`adapters`: its default adapter, learning rate 1e-4, 6 epochs. Fine-tuning: 20 epochs at 2e-5 "
        "(Mosbach et al. 2021). AutoIntent: the preset `classic-light`. SetFit: its defaults but for "
        f"`num_iterations={SIDES['setfit'].settings['iterations']}`: all pairs would take days on a CPU.",
    ]
    fill(report, results, options.tasks)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds <task>/train.parquet, …")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rows", type=int, default=1000, help="of train, at most (default: %(default)s)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=60,
        help="that a side may take on a task (default: %(default)g); adaptune has what the slowest took",
    )
    parser.add_argument("--out-dir", type=Path, required=True, help="holds results.jsonl and logs")
    parser.add_argument("--report", type=Path, help="measure nothing, write there what is known, as markdown")
    add_cache_option(parser)
    options = parser.parse_args()
    if absent := [task for task in options.tasks if not (options.data_dir / task).is_dir()]:
        parser.error(f"--data-dir has no folder {', '.join(absent)}; name others by --tasks")
    options.out_dir.mkdir(parents=True, exist_ok=True)
    results = Results(options.out_dir, options.rows)
    if options.report is None:
        for task in options.tasks:
            measure(options, results, task)
    make_report(options, results).show(options.report)


if __name__ == "__main__":
    main()
