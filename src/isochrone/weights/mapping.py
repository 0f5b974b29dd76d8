"""A file mapped into memory, read only, so that weights cost page cache and no copy."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadModel, NotFound
from .blocks import U8


@dataclass(frozen=True, slots=True, eq=False)
class MappedFile:
    """The bytes of a file.  Whoever replaces such a file must rename over it: shortening it in place kills readers.

    data  u8 [file size], read only
    """

    path: Path
    data: U8
    _map: mmap.mmap

    @classmethod
    def open(cls, path: Path) -> MappedFile:
        """Map the whole file.  Raises NotFound or BadModel."""
        try:
            # O_NONBLOCK: opening a named pipe must fail below, not wait for a writer.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist.", fix="Check the path, or pull the model again.") from None
        except (OSError, ValueError) as error:
            raise BadModel(f"{path} cannot be opened: {error}.", fix="Check its permissions.") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
                kind = "empty" if stat.S_ISREG(status.st_mode) else "not a regular file"
                raise BadModel(f"{path} is {kind}.", fix="Name a model file, or pull the model again.")
            mapped = mmap.mmap(fd, status.st_size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadModel(f"{path} cannot be mapped: {error}.", fix="Copy it to a local disk.") from error
        finally:
            os.close(fd)
        return cls(path, np.frombuffer(mapped, np.uint8), mapped)

    def drop_pages(self) -> None:
        """Give back the memory of pages read so far; they are read again from the file when next touched."""
        self._map.madvise(mmap.MADV_DONTNEED)
