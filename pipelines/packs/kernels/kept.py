"""Compiled kernels as Triton keeps them for the next process, believed only where they are whole.

Triton itself believes its files: a damaged description of a kernel ends every process that comes to it, and a
damaged kernel goes to the GPU as it is. Its setting TRITON_CACHE_MANAGER puts this class in their place.
"""

import atexit
import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar

from triton.runtime.cache import FileCacheManager

log = logging.getLogger(__name__)
_SUM = ".sha256"  # of a file, beside it


class KernelFiles(FileCacheManager):
    """The files of one kernel, each with its checksum beside it.

    A file that is not what was written is as one that is not there: the kernel is compiled again, and the new
    file takes its place. What cannot be written is kept for this process alone. Processes that write the same
    kernel at once write the same bytes, each file in one move.
    """

    _elsewhere: ClassVar[Path | None] = None  # for this process alone

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        with contextlib.suppress(OSError):  # it cannot make its folder: `put` will say so
            super().__init__(key, override=override, dump=dump)

    def get_file(self, filename: str) -> str | None:
        path = Path(self.cache_dir) / filename
        try:
            known = path.with_name(f"{filename}{_SUM}").read_text(encoding="ascii")
            if known == _digest(path.read_bytes()):
                return str(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError):  # told of below
            pass
        log.warning("the compiled kernel %s is damaged: it is compiled again", path)
        return None

    def get_group(self, filename: str) -> dict[str, str] | None:
        """The files that were written together, where all of them are whole; they lie beside this list,
        wherever the folder was when it was written.
        """
        listed = self.get_file(f"__grp__{filename}")
        if listed is None:
            return None
        names = json.loads(Path(listed).read_bytes())["child_paths"]
        found = {name: self.get_file(name) for name in names}
        whole = {name: path for name, path in found.items() if path is not None}
        return whole if len(whole) == len(found) else None

    def put(self, data: object, filename: str, binary: bool = True) -> str:
        written = data if isinstance(data, bytes) else str(data).encode()
        if self._elsewhere is None:
            try:
                return self._put(written, filename)
            except OSError as error:
                self._go_elsewhere(error)
        self.cache_dir = str(self._elsewhere / self.key)
        return self._put(written, filename)

    def _put(self, data: bytes, filename: str) -> str:
        path: str = super().put(data, filename)
        super().put(_digest(data).encode(), f"{filename}{_SUM}")
        return path

    @classmethod
    def _go_elsewhere(cls, error: OSError) -> None:
        """Into the folder for temporary files, or memory."""
        log.warning("compiled kernels are not kept for the next process, which starts slower: %s", error)
        try:
            folder = tempfile.mkdtemp(prefix="adaptune-kernels-")
        except OSError:
            folder = tempfile.mkdtemp(prefix="adaptune-kernels-", dir="/dev/shm")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        cls._elsewhere = Path(folder)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
