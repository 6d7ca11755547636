"""The lock of a file that one process at a time can have."""

import sys
from io import FileIO


def lock_file(file: FileIO) -> None:
    """Take the lock of an open file; it ends with this process, however that ends.

    Raises:
        BlockingIOError, PermissionError: another process has it.
        OSError: its file system knows no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**30)  # far behind what others read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
