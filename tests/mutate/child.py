"""A process that reads mutated inputs, and what becomes of each."""

import faulthandler
import hashlib
import json
import logging
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.mutate.formats import Format
from tests.mutate.sandbox import PROJECT, Sandbox
from transform.errors import RedrumError

LARGEST_KEPT = 2**18
_MOST_MEMORY, _MOST_FILE = 6 * 2**30, 2**29
_TRACED_BYTES, _TRACED_S, _TRACED = 2**15, 0.05, 0.15  # what is run again to see its lines of code, how often


@dataclass
class Outcome:
    """What became of one input."""

    kind: str  # read, refused, traceback, crash, slow, outside, or harness: the mutator itself failed
    what: str = ""  # that was read, or why not
    where: str = ""  # the innermost line of the project
    wall_s: float = 0.0
    cpu_s: float = 0.0
    is_new: bool = False  # unlike all inputs before
    signs: list[str] = field(default_factory=list)  # by which inputs are told apart
    trace: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind not in ("read", "refused")

    @property
    def key(self) -> str:
        """What is the same for two findings of one fault."""
        said = self.what if self.what.startswith("changed: ") else self.what.partition(":")[0]
        return f"{self.kind} {said} {self.where}"


class _Complaints(logging.Handler):
    """Collects what goes wrong beside an input: in threads, in the log, and in errors that are only logged."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[BaseException] = []
        threading.excepthook = lambda about: self.found.append(about.exc_value or SystemError("a thread"))

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("daw_bridge", "transform")):
            return
        try:
            text = record.getMessage()
        except Exception as err:  # a log line that cannot be formatted
            return self.found.append(err)
        error = record.exc_info[1] if record.exc_info and record.levelno >= logging.WARNING else None
        if error is not None and not isinstance(error, RedrumError | OSError):
            self.found.append(error)
        elif "Traceback (most recent call last)" in text:
            self.found.append(AssertionError(text))


def attempt(made: Format, data: bytes, sandbox: Sandbox, complaints: _Complaints) -> Outcome:
    """Read an input, here and now, and return what became of it."""
    complaints.found.clear()
    before = sandbox.watch()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    error: BaseException | None = None
    try:
        outcome = Outcome("read", made.read(data, sandbox))
    except RedrumError as err:
        outcome = Outcome("refused", type(err).__name__)
        error = (
            err
            if err.message.strip() and "\n" not in err.message
            else ValueError(f"{err.message!r} is no sentence")
        )
        outcome.signs = [" ".join(_lines_of(error))]
    except BaseException as err:
        error = err
    took_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    touched = sandbox.unwatch(before)
    if error is None and complaints.found:
        error = complaints.found[0]
    if touched:
        outcome = Outcome("outside", touched[0], sandbox.where, trace="\n".join(touched))
    elif error is not None and not isinstance(error, RedrumError):
        outcome = _fault(error)
    outcome.wall_s, outcome.cpu_s = took_s
    bucket = max(0, round(took_s[1] * 100).bit_length() - 1)  # inputs that take long are worth keeping
    outcome.signs += (
        [f"{outcome.kind} {outcome.what} {bucket}"] if outcome.kind == "read" else [f"slow {bucket}"]
    )
    return outcome


def _fault(error: BaseException) -> Outcome:
    lines = _lines_of(error)
    text = "".join(traceback.format_exception(error))
    inside = re.findall(r'File "([^"]+)", line (\d+)', str(error)) if isinstance(error, AssertionError) else []
    lines += [f"{Path(file).name}:{line}" for file, line in inside if file.startswith(PROJECT)]
    what = f"{type(error).__name__}: {error}"
    if inside:  # a traceback that was logged
        what = str(error).strip().splitlines()[-1]
    return Outcome("traceback", what[:300], lines[-1] if lines else _place_of(error), trace=text[-6000:])


def _lines_of(error: BaseException) -> list[str]:
    """Return the lines of the project that an error passed through, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(f.filename).name}:{f.lineno}" for f in frames if f.filename.startswith(PROJECT)]


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


@contextmanager
def _tracing(lines: set[str]) -> Iterator[None]:
    """Collect the lines of the project that are run."""

    def in_frame(frame, event, argument):
        if event == "line":
            lines.add(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")
        return in_frame

    sys.settrace(lambda frame, event, _: in_frame if frame.f_code.co_filename.startswith(PROJECT) else None)
    try:
        yield
    finally:
        sys.settrace(None)


class Child:
    """A process that reads inputs, and tells each before and after."""

    def __init__(self, made: Format, sandbox: Sandbox, pipe: int, seen: set[str]) -> None:
        self._made, self._sandbox, self._pipe, self._seen = made, sandbox, pipe, set(seen)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        self._trace_file = (sandbox.spool / "stacks").open("w")
        faulthandler.register(signal.SIGUSR1, self._trace_file, all_threads=True)
        for what, most in ((resource.RLIMIT_AS, _MOST_MEMORY), (resource.RLIMIT_FSIZE, _MOST_FILE)):
            with suppress(ValueError, OSError):
                resource.setrlimit(what, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._complaints = _Complaints()
        logging.getLogger().addHandler(self._complaints)
        logging.getLogger().setLevel(logging.DEBUG)
        logging.Logger.setLevel = lambda *_: None  # all lines come here, whatever a command asks for
        sandbox.enter()
        made.begin(sandbox)

    def tell(self, about: Mapping[str, Any]) -> None:
        os.write(self._pipe, json.dumps(about).encode("utf-8", "replace") + b"\n")

    def attempt(self, data: bytes, *, traced: bool = False) -> Outcome:
        (self._sandbox.spool / "input").write_bytes(data)
        self.tell({"begin": True, "cpu_s": time.process_time()})
        outcome = attempt(self._made, data, self._sandbox, self._complaints)
        if traced and not outcome.is_finding and outcome.wall_s < _TRACED_S and len(data) < _TRACED_BYTES:
            lines: set[str] = set()
            with _tracing(lines):
                attempt(self._made, data, self._sandbox, self._complaints)
            outcome.signs += sorted(lines)
        new = [sign for sign in outcome.signs if sign not in self._seen]
        outcome.is_new, outcome.signs = bool(new) and not outcome.is_finding, new
        self._seen.update(new)
        if outcome.is_finding or (outcome.is_new and len(data) <= LARGEST_KEPT):
            os.replace(self._sandbox.spool / "input", self._sandbox.spool / name_of(data))
        self.tell(asdict(outcome) | {"name": name_of(data)})
        return outcome

    def run(self, chance: Random, inputs: Sequence[bytes], until_s: float) -> None:
        """Read mutated inputs until it is time, or one has done harm."""
        while time.monotonic() < until_s:
            n = chance.choice([chance.randrange(len(inputs)), len(inputs) - 1 - int(chance.expovariate(0.05))])
            (self._sandbox.spool / "input").write_bytes(inputs[max(0, n)])
            data = self._made.mutate(chance, inputs[max(0, n)], chance.choice(inputs))
            if "changed: " in self.attempt(data, traced=chance.random() < _TRACED).trace:
                return  # what lies outside is no longer what it was


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
