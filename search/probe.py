"""The side of `search.cluster.remote` on a cluster's head: python -m search.probe NONCE VERB ARGUMENTS."""

import io
import json
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from search.errors import first_line
from search.secrets import hide_secrets
from search.wire import REQUEST_FILE, UNPACKED_LIMIT_BYTES, close_to_others, encode, version

if TYPE_CHECKING:
    from search.storage import Storage

NODE_TIMEOUT_SECONDS = 120
FETCH_LIMIT_BYTES = 200_000_000  # of the packed folder: it travels through a job's log
MINIMUM_FREE_BYTES = 1_000_000_000
SHARE = "Give a folder that every node mounts at this path, writable, or an object store's URI."

OPEN_FOLDER = (
    "Other users of {nodes} can run code as this job's owner: Ray unpacks jobs under {folder}, which is "
    "open to all. Start Ray with a --temp-dir below a folder of mode 0700 (docs/cluster.md: Shared machines)."
)

Finding = tuple[str, str, str, str]  # key, value, rule, fix: a Problem of the job file


def find_missing(location: str) -> str | None:
    """Why a path or a package:NAME/PATH cannot be used on this node; None if it is there."""
    if location.startswith("package:"):
        from pipelines.errors import InputError
        from pipelines.locations import resolve_location

        try:
            resolve_location(location, key="")
        except InputError as error:
            return error.rule
        return None
    return None if Path(location).exists() else "does not exist"


def look_at_node(request: dict[str, Any], node: str) -> tuple[list[Finding], Path | None]:
    """What is wrong with one node, and what of it is open to all; runs on it, with the head's code."""
    return examine_node(request, node), find_open_folder(Path.cwd())


def examine_node(request: dict[str, Any], node: str) -> list[Finding]:
    """What is wrong with the node. `request` is that of `probe`, with the probe's folder."""
    installed = version()
    if installed != request["version"]:
        rule = f"is installed, and {request['version']} where you submit from"
        return [("adaptune", installed or "nothing", rule, "Install the same version on every node.")]
    from search.storage import Storage
    from search.wire import close_to_others  # here: a node of another version may have none

    close_to_others()
    findings: list[Finding] = []
    for key, location in request["locations"]:
        try:
            missing = find_missing(location)
        except (OSError, ValueError) as error:
            missing = f"cannot be read ({error})"
        if missing:
            fix = "Put it where every node sees it, or give a path on this machine to have it uploaded."
            if location.startswith("package:"):
                fix = "Install that package on every node."
            findings.append((key, location, missing, fix))
    if request["folder"]:
        storage = Storage(request["storage"])
        try:
            if storage.read(f"{request['folder']}/driver") is None:
                findings.append(("storage", storage.root, "what the head writes there is not seen", SHARE))
            else:
                storage.write(f"{request['folder']}/{node}", b"seen")
        except OSError as error:
            rule = f"cannot be written ({type(error).__name__})"
            findings.append(("storage", storage.root, rule, SHARE))
    return findings


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Examine the head and every node that is alive.

    Args:
        request: `version` that all must have; `storage`; `locations` [[key, path]] that must be on every
            node; `database` and `tracking.uri`, or None, that the head must reach; `token`, random.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from search.storage import Storage

    ray.init(address="auto", log_to_driver=False)
    nodes = {
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})": node["NodeID"]
        for node in ray.nodes()
        if node["Alive"]
    }
    where: dict[Finding, list[str]] = defaultdict(list)
    storage = Storage(request["storage"])
    for finding in examine_head(request, storage):
        where[finding].append("the head")
    task = ray.remote(num_cpus=0, max_retries=0)(look_at_node)
    answers = {
        node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(identity, soft=False)).remote(
            request, identity
        )
        for node, identity in nodes.items()
    }
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=NODE_TIMEOUT_SECONDS)
    open_folders: dict[Path, list[str]] = defaultdict(list)
    for node, answer in answers.items():
        try:
            findings, folder = ray.get(answer, timeout=0)
        except ray.exceptions.RayError as error:
            rule = f"did not answer ({type(error).__name__})"
            findings = [("node", nodes[node], rule, "Look at its logs, or take it out of the cluster.")]
        else:
            if folder:
                open_folders[folder].append(node)
            if request["folder"] and not findings and not storage.read(f"{request['folder']}/{nodes[node]}"):
                findings = [("storage", storage.root, "what is written there is not seen by the head", SHARE)]
        for finding in findings:
            where[finding].append(node)
    if request["folder"]:
        storage.delete(request["folder"])
    return {
        "version": version(),
        "nodes": list(nodes),
        "warnings": [
            OPEN_FOLDER.format(nodes=", ".join(names), folder=folder)
            for folder, names in open_folders.items()
        ],
        "findings": [
            [key, value, f"{rule}, on {', '.join(names)}", fix]
            for (key, value, rule, fix), names in where.items()
        ],
    }


def find_open_folder(path: Path) -> Path | None:
    """The folder above a path in which other users may put their own in place of what is there; else None.

    Below a folder that is closed to others nobody comes.
    """
    found = None
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & (stat.S_IXGRP | stat.S_IXOTH):
            return None
        if found is None and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            found = folder
    return found


def examine_head(request: dict[str, Any], storage: "Storage") -> list[Finding]:
    """What is wrong with storage, database and tracking as the driver's node sees them.

    Sets the request's folder: a fresh one in the storage, None if it cannot be written.
    """
    findings: list[Finding] = []
    request["folder"] = f".adaptune-probe-{request['token']}"
    try:
        storage.write(f"{request['folder']}/driver", b"seen")
    except OSError as error:
        request["folder"] = None
        findings.append(("storage", storage.root, f"cannot be written ({error})", SHARE))
    else:
        free = shutil.disk_usage(storage.root).free if storage.is_folder else MINIMUM_FREE_BYTES
        if free < MINIMUM_FREE_BYTES:
            rule = f"has {free / 1e9:.2f} GB left"
            findings.append(("storage", storage.root, rule, "Free some space: a search needs a few GB."))
    checks = {"database": reach_database, "tracking.uri": reach_tracking}
    for key, reach in checks.items():
        uri = request[key]
        if uri is None:
            continue
        try:
            reach(uri)
        except Exception as error:  # whatever its driver raises
            rule = f"cannot be reached ({type(error).__name__}: {hide_secrets(first_line(error), uri)})"
            fix = "Give one that the cluster's head can reach."
            findings.append((key, hide_secrets(uri), rule, fix))
    return findings


def reach_database(uri: str) -> None:
    """Open and close one connection."""
    import sqlalchemy

    sqlalchemy.create_engine(uri).connect().close()


def reach_tracking(uri: str) -> None:
    """Ask an MLflow server how it is; other kinds of URI are left to MLflow."""
    if uri.startswith(("http://", "https://")):
        urlopen(f"{uri.rstrip('/')}/health", timeout=20).close()  # noqa: S310 - http(s) only


def run(arguments: list[str]) -> dict[str, Any]:
    """Run `adaptune ARGUMENTS` here."""
    done = subprocess.run(["adaptune", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def pack(folder: str) -> bytes:
    """A bundle's files, in a folder or at a URI, as a gzipped tar."""
    from search.errors import UserError
    from search.storage import Storage

    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as copy:
        try:
            Storage(folder).fetch(folder, Path(copy))
        except (OSError, UserError) as error:
            sys.exit(f"{folder} cannot be read as a folder on the cluster ({error})")
        children = sorted(Path(copy).iterdir())
        size = sum(child.stat().st_size for child in children)
        if size > UNPACKED_LIMIT_BYTES:
            sys.exit(f"{folder} is {size / 1e6:.0f} MB; copy it from the storage instead")
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for child in children:
                archive.add(child, arcname=child.name)
    if buffer.tell() > FETCH_LIMIT_BYTES:
        sys.exit(f"{folder} is {buffer.tell() / 1e6:.0f} MB packed; copy it from the storage instead")
    return buffer.getvalue()


def main(nonce: str, verb: str, *arguments: str) -> None:
    """Do what is asked and reply on stdout."""
    close_to_others()
    if verb == "probe":
        payload = json.dumps(probe(json.loads(Path(REQUEST_FILE).read_text()))).encode()
    elif verb == "run":
        payload = json.dumps(run(list(arguments))).encode()
    elif verb == "fetch":
        payload = pack(*arguments)
    else:
        sys.exit(f"unknown verb {verb!r}")
    for line in encode(payload, nonce):
        print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
