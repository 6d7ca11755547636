"""Formats whose readers are faulty on purpose: `test_mutate.py` sees that the mutator finds it."""

import os
import signal
import sys
import time
from random import Random

from tests.mutate.__main__ import main
from tests.mutate.faults import BRACKETS, mutated
from tests.mutate.formats import Format
from tests.mutate.sandbox import Sandbox
from transform.errors import AudioError


def _sound(data: bytes, sandbox: Sandbox) -> str:
    (sandbox.inside / "input").write_bytes(data)
    if len(data) % 2:
        raise AudioError("it has an odd number of bytes")
    return "even"


def _number(data: bytes, sandbox: Sandbox) -> str:
    return str(int(data.split()[0]) > 0)


def _waits(data: bytes, sandbox: Sandbox) -> str:
    while b"7" not in data:
        time.sleep(0.05)
    return "it has a 7"


def _computes(data: bytes, sandbox: Sandbox) -> str:
    while b"7" not in data:
        pass
    return "it has a 7"


def _writes(data: bytes, sandbox: Sandbox) -> str:
    if b"7" not in data:
        (sandbox.outside / "precious" / "thesis.txt").write_bytes(data)
    return "it has a 7"


def _writes_through_a_link(data: bytes, sandbox: Sandbox) -> str:
    link = sandbox.inside / "link"
    if not link.is_symlink():
        link.symlink_to(sandbox.outside / "home")
    if b"7" not in data:
        os.remove(link / ".bashrc")
    return "it has a 7"


def _writes_unseen(data: bytes, sandbox: Sandbox) -> str:
    if b"7" not in data:  # C code tells no hook
        os.mkfifo(sandbox.outside / "empty" / "pipe")
    return "it has a 7"


def _dies(data: bytes, sandbox: Sandbox) -> str:
    if b"7" not in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "it has a 7"


def _mutate(chance: Random, data: bytes, other: bytes) -> bytes:
    return mutated(chance, data, other, BRACKETS)[:10_000]


_READERS = (_sound, _number, _waits, _computes, _writes, _writes_through_a_link, _writes_unseen, _dies)
PLANTED = {
    read.__name__[1:]: Format(name=read.__name__[1:], seeds=lambda: [b"7 7\n"], mutate=_mutate, read=read)
    for read in _READERS
}

if __name__ == "__main__":
    sys.exit(main(formats=PLANTED))
