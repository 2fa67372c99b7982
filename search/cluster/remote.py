"""What we ask of a Ray cluster through its Jobs API: the connection, and short jobs that send bytes back."""

import gzip
import io
import json
import logging
import os
import secrets
import shlex
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from pipelines.files import BUNDLE_FILES
from search.errors import RemoteError, UserError, first_line
from search.job.values import is_name
from search.wire import UNPACKED_LIMIT_BYTES, decode

TOKEN_FILE = Path(".ray", "auth_token")  # under the home folder; where `ray get-auth-token --generate` writes
ADVICE = (
    "Set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, or put the cluster's token into ~/.ray/auth_token "
    "(`ray get-auth-token` prints it on the head)."
)
log = logging.getLogger(__name__)
_NOT_INSTALLED = ("No module named", "python: not found", "python: command not found", "Unknown option: -P")
_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def find_token() -> tuple[str, str] | None:
    """Find the token as Ray would: (token, where it was found), or None if no token is to be sent.

    Ray reads RAY_AUTH_MODE when it is imported and keeps the first token it sees, so that neither can be
    set from here; we read both ourselves and send the header.

    Raises:
        UserError: RAY_AUTH_MODE=token and there is none, or RAY_AUTH_TOKEN_PATH cannot be read.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            token = Path(named).read_text().strip()
        except OSError as error:
            raise UserError(f"RAY_AUTH_TOKEN_PATH = {named!r} cannot be read: {error.strerror}.") from error
        if not token:
            raise UserError(f"RAY_AUTH_TOKEN_PATH = {named!r} is an empty file. {ADVICE}")
        _warn_of_mode(Path(named))
        return token, "RAY_AUTH_TOKEN_PATH"
    file = Path.home() / TOKEN_FILE
    token = file.read_text().strip() if file.is_file() else ""
    if token:
        _warn_of_mode(file)
        return token, "~/.ray/auth_token"
    if mode == "token":
        raise UserError(f"RAY_AUTH_MODE is 'token', but there is no token. {ADVICE}")
    return None


def _warn_of_mode(file: Path) -> None:
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning(
            "Other users of this machine may read the token in %s. Take it from them: chmod 600 %s",
            file,
            file,
        )


@contextmanager
def contact(address: str) -> Iterator[JobSubmissionClient]:
    """Connect to a cluster's dashboard, http(s)://HOST:PORT, and explain what goes wrong inside the block.

    Raises:
        UserError: not an address, nobody answers there, or the token is missing or wrong.
        RemoteError: the cluster answers with an error.
    """
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UserError(f"address = {address!r} is not a dashboard's. Write it like http://HEAD:8265.")
    found = find_token()
    proxy = _describe_proxy(parts.scheme, parts.hostname)
    try:
        with _no_proxy_to_here(parts.hostname):
            yield _connect(parts.geturl(), found[0] if found else None)
    except AuthenticationError as error:
        if found is None:
            off = "Here RAY_AUTH_MODE is 'disabled': unset it. " if "RAY_AUTH_MODE" in os.environ else ""
            raise UserError(f"The cluster at {address} asks for a token (401). {off}{ADVICE}") from error
        raise UserError(
            f"The cluster at {address} refuses the token from {found[1]} (403). {ADVICE}{proxy}"
        ) from error
    except (ConnectionError, requests.RequestException, aiohttp.ClientError) as error:
        raise UserError(
            f"No Ray dashboard answers at {address} ({type(error).__name__}). Is the cluster up, and the "
            f"tunnel open? `ray dashboard ray_cluster.yaml` opens one on http://127.0.0.1:8265.{proxy}"
        ) from error
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise
        raise RemoteError(f"The cluster at {address} refused: {error}") from error  # so Ray tells HTTP errors


def _describe_proxy(scheme: str, host: str) -> str:
    """What to say where a request goes by a proxy. Its address is not said: it may hold a password."""
    if scheme not in getproxies() or proxy_bypass(host) or _is_here(host):
        return ""
    return f" It was asked through the proxy of {scheme}_proxy: with no_proxy={host} it is asked directly."


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _no_proxy_to_here(host: str) -> Iterator[None]:
    """Ask this machine's own addresses directly, whatever proxy the environment names."""
    before = os.environ.get("no_proxy")
    if _is_here(host):
        known = before or os.environ.get("NO_PROXY")
        os.environ["no_proxy"] = f"{known},{host}" if known else host
    try:
        yield
    finally:
        if before is not None:
            os.environ["no_proxy"] = before
        elif _is_here(host):
            del os.environ["no_proxy"]


def _connect(address: str, token: str | None) -> JobSubmissionClient:
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)  # tells of each upload
    hidden = {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if name in os.environ}
    try:  # Ray lets these variables overrule the address that it is given
        return JobSubmissionClient(address, headers={"Authorization": f"Bearer {token}"} if token else None)
    except RuntimeError as error:
        if isinstance(error, AuthenticationError):
            raise
        raise UserError(f"{address} answers, but not like a Ray dashboard: {error}") from error
    finally:
        os.environ.update(hidden)


def answers_anyone(address: str) -> bool:
    """Whether a cluster tells its jobs to one who sends no token, and so takes jobs from him, too."""
    return requests.get(f"{address}/api/jobs/", timeout=20, allow_redirects=False).ok


def call(
    client: JobSubmissionClient,
    verb: str,
    *arguments: str,
    files: Mapping[str, str] | None = None,
    timeout_seconds: float = 300,
) -> bytes:
    """Run `search.probe VERB ARGUMENTS` on the cluster's head as a job, and return the bytes it replies.

    Files are put into its working directory: the place for what must not show in the list of jobs.

    Raises:
        RemoteError: it failed, its reply was damaged, or it took too long.
    """
    nonce = secrets.token_hex(8)
    # -P: a foreign `search` folder where the cluster was started must not stand before ours
    entrypoint = shlex.join(["python", "-P", "-m", "search.probe", nonce, verb, *arguments])
    with tempfile.TemporaryDirectory(prefix="adaptune-") as folder:
        package = Path(folder, "call.zip")
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("adaptune_call", nonce)  # never empty
            for name, text in (files or {}).items():
                archive.writestr(name, text)
        job = client.submit_job(
            entrypoint=entrypoint,
            submission_id=f"adaptune-call-{nonce}",
            runtime_env={"working_dir": str(package)},
        )
    try:
        status = wait(client, job, timeout_seconds=timeout_seconds)
        log = client.get_job_logs(job)
        if status is not JobStatus.SUCCEEDED:
            raise RemoteError(_explain(verb, status, client.get_job_info(job).message, log))
        return decode(log, nonce)
    finally:
        if not client.get_job_status(job).is_terminal():
            client.stop_job(job)


def wait(client: JobSubmissionClient, job: str, *, timeout_seconds: float) -> JobStatus:
    """Wait until a job has ended; its status."""
    deadline = time.monotonic() + timeout_seconds
    while not (status := client.get_job_status(job)).is_terminal():
        if time.monotonic() > deadline:
            raise RemoteError(f"{job} on the cluster is still {status} after {timeout_seconds:.0f} s.")
        time.sleep(0.3)
    return JobStatus(status)


def _explain(verb: str, status: JobStatus, message: str | None, log: str) -> str:
    if any(sign in log for sign in _NOT_INSTALLED):
        return (
            "The cluster's head has no adaptune in the environment that Ray was started from. Install it on "
            "every node (`pip install` of this version with constraints.txt), activate that environment and "
            "start Ray again."
        )
    tail = "\n".join(log.splitlines()[-15:]) or message or "no output"
    return f"{verb} on the cluster ended as {status}:\n{tail}"


def run_remote(arguments: list[str], *, address: str, files: Mapping[str, str] | None = None) -> str:
    """Run `adaptune ARGUMENTS` on the cluster's head and return its stdout.

    Args:
        files: for its working directory: what must not show in the list of jobs.

    Raises:
        UserError: the command found its input wrong (exit code 2), or the cluster cannot be reached.
        RemoteError: it failed.
    """
    with contact(address) as client:
        reply: dict[str, Any] = json.loads(call(client, "run", *arguments, files=files, timeout_seconds=1800))
    if reply["exit_code"] == 0:
        return str(reply["stdout"])
    message = f"{reply['stderr'].strip() or reply['stdout'].strip()}\n(on the cluster at {address})"
    if reply["exit_code"] == 2:
        raise UserError(message)
    raise RemoteError(message)


def parse_results(text: str) -> dict[str, Any]:
    """What `adaptune results --json` printed on the cluster, once its names are such that we would give.

    Raises:
        RemoteError: it is something else.
    """
    try:
        results: dict[str, Any] = json.loads(text)
        names = [results["job"], *(entry[key] for entry in results["tasks"] for key in ("task", "method"))]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RemoteError(
            f"What the cluster says of the job cannot be read ({first_line(error)})."
        ) from error
    for name in names:
        if not is_name(name):
            raise RemoteError(f"What the cluster says of the job has a name that cannot be: {name!r}.")
    return results


def fetch_folder(folder: str, destination: Path, *, address: str) -> None:
    """Bring the files of a bundle on the cluster, at a path or a URI, into a folder here; made if missing.

    Raises:
        UserError: the cluster cannot be reached.
        RemoteError: there is no such folder, it is too large, or what came is damaged or no bundle's files.
    """
    with contact(address) as client:
        payload = call(client, "fetch", folder)
    unpack(payload, destination)


def unpack(payload: bytes, destination: Path) -> None:
    """Unpack a gzipped tar of a bundle's files, and of nothing else.

    Raises:
        RemoteError: it is damaged, holds anything else, or is larger unpacked than any that we would send.
    """
    destination.mkdir(parents=True, exist_ok=True)
    try:
        with (
            gzip.open(io.BytesIO(payload)) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, UNPACKED_LIMIT_BYTES), mode="r|") as archive,
        ):
            for member in archive:
                _unpack_file(archive, member, destination)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise RemoteError(f"What the cluster sent cannot be unpacked: {error}") from error


def _unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, destination: Path) -> None:
    # A sparse file is regular, too, and its holes are no bytes of the archive, which alone are counted.
    plain = member.isreg() and not member.issparse() and member.size <= BUNDLE_FILES.get(member.name, -1)
    content = archive.extractfile(member) if plain else None
    if content is None:
        raise RemoteError(
            f"What the cluster sent cannot be unpacked: {member.name!r} is no file of a bundle."
        )
    with content, (destination / member.name).open("xb") as file:
        shutil.copyfileobj(content, file)


class _Bounded(io.RawIOBase):
    """A stream that says no after so many bytes: how large an archive is, it only tells as it is read."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it has more than {UNPACKED_LIMIT_BYTES / 1e6:.0f} MB unpacked")
        return data
