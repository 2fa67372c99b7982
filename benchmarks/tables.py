"""What every benchmark prints: the machine, the versions, and tables of medians, as text and as markdown."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

FAST_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides a CPU's matrix rate
# Options that name a place or change no figure.
PRIVATE = ("--out", "--out-dir", "--peer-cache", "--processes", "--report", "--storage")
PLACES = {"--data-dir": "DATA", "--record": "FILE"}  # shown for places that change figures
OURS = ("adaptune", "torch", "transformers", "ray", "optuna", "mlflow")


def machine() -> str:
    """CPU model, cores, the flags that matter, memory and the load at this moment, in one line."""
    info = _fields(Path("/proc/cpuinfo"))
    flags = set(info.get("flags", "").split())
    shown = ", ".join(f"{flag} {'yes' if flag in flags else 'no'}" for flag in FAST_FLAGS)
    gigabytes = int(_fields(Path("/proc/meminfo"))["MemTotal"].split()[0]) / 2**20
    return (
        f"{info.get('model name', platform.processor())}, {len(os.sched_getaffinity(0))} cores ({shown}), "
        f"{gigabytes:.0f} GiB; load average at the start {os.getloadavg()[0]:.1f}"
    )


def versions(names: Sequence[str] = OURS) -> str:
    """Versions of installed packages, in one line."""
    return ", ".join(f"{name} {_version(name)}" for name in names)


def versions_in(python: Path, names: Sequence[str]) -> str:
    """The same of another environment."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    found = subprocess.run([python, "-c", code, *names], check=True, capture_output=True, text=True)
    pairs = zip(names, found.stdout.split(), strict=True)
    return ", ".join(f"{name} {number}" for name, number in pairs)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """A median with the least and the most: `12.3 (11.9 to 14.0; n = 3)`."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (n = 1)"
    middle, least, most = (f"{value:.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({least} to {most}; n = {len(values)})"


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """A quotient of medians: `3.4x`."""
    return f"{median(over) / median(under):.2f}x" if over and under else "-"


@dataclass
class Report:
    """One run of a benchmark. `show` prints it; with a file, it writes the same as markdown.

    Attributes:
        facts: what was run, on what; the machine and the command are added.
        notes: what a reader of the figures has to know.
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_public(sys.argv[1:])])
        self.facts = {
            "Command": f"`{command}`",
            "Date": date.today().isoformat(),
            "Machine": machine(),
            "Versions": versions(),
            **self.facts,
        }

    def add_table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        self.tables.append(markdown_table(columns, rows))

    def markdown(self) -> str:
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join([f"## {self.title}", facts, *self.tables, *([notes] if notes else [])]) + "\n"

    def show(self, out: Path | None) -> None:
        print(self.markdown())
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(self.markdown(), encoding="utf-8")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that reads well as text too: columns padded to one width."""
    cells = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _public(arguments: Sequence[str]) -> list[str]:
    """A command's arguments without the folders of the machine it ran on."""
    shown: list[str] = []
    after = ""
    for argument in arguments:
        if after in PLACES:
            shown.append(PLACES[after])
        elif after not in PRIVATE and argument not in PRIVATE:
            shown.append(argument)
        after = argument
    return shown


def _fields(path: Path) -> Mapping[str, str]:
    """The first of each `name: value` line of a /proc file."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
