"""Stands in for Ray's `setup_worker.py`: has the server of forks start the worker, and lasts as long as it.

Run by Ray's raylet as `fork_worker.py default_worker.py ARGUMENTS`; imports next to nothing.
"""

import json
import os
import socket
import sys

SETUP = ("--language=", "--serialized-runtime-env-context=")  # of the set-up, not of the worker


def main() -> int:
    """The worker's exit code; 1 if the server is gone."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(os.environ["ADAPTUNE_TEST_FORKS"])
    request = {
        "arguments": [word for word in sys.argv[1:] if not word.startswith(SETUP)],
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to import than the rest
        "environment": dict(os.environ),
        "worker": True,
    }
    socket.send_fds(server, [json.dumps(request).encode()], [1, 2])
    server.recv(32)  # its id, which it tells the raylet itself
    return abs(int(server.recv(32) or b"1"))


if __name__ == "__main__":
    sys.exit(main())
