"""What commit 438765f wrote (formats/make.py), unpacked as if it had been written where a test wants it."""

import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

ARCHIVE = Path(__file__).parent / "formats" / "438765f.tar.xz"
WRITTEN_AT = "/tmp/adaptune-formats"  # noqa: S108 # only ever replaced


def unpack(folder: Path) -> Path:
    """The folder with encoder, data, job files and runs/, all paths in databases and job files made its own.

    Bundles keep the path that they were written with: they are signed, and find their backbone by content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        archive.extractall(folder, filter="data")
    for database in ("studies.db", "mlflow.db"):
        _move(folder / "runs" / database, str(folder))
    for text in (*folder.glob("*.yaml"), *folder.glob("runs/*/job.json"), folder / "expected.json"):
        text.write_text(text.read_text().replace(WRITTEN_AT, str(folder)))
    return folder


def expected(folder: Path) -> dict[str, Any]:
    """`results --json` by job, and `predict --json` (a list of objects) by "predict BUNDLE"."""
    content: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return content


def without_newer_keys(results: dict[str, Any]) -> dict[str, Any]:
    """Results of an old record without the keys that have come since, which say that nothing is known."""
    for task in results["tasks"]:
        assert task.pop("retries") == []
        assert task.pop("baseline") is None
        assert task.pop("folds") is None
        assert task.pop("leaders") == []
        if task["best"] is not None:
            assert task["best"].pop("interval") is None
            assert task["best"].pop("refit") is None
            for run in (task["best"]["seeds"] or {"runs": ()})["runs"]:
                assert run.pop("refit") is None
    return results


def _move(database: Path, to: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info('{table}')").fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '  # noqa: S608
                        f'WHERE "{column}" LIKE ?',
                        (WRITTEN_AT, to, f"%{WRITTEN_AT}%"),
                    )
        connection.commit()
