"""Mutate files, folders and conversations, and see what becomes of Redrum; goes on where it stopped.

    python -m tests.mutate --minutes 60 --corpus FOLDER [--only wav,midi] [--jobs 2] [--seed 0]
    python -m tests.mutate --replay FILE --only wav

Whatever an input is, it may be read or refused with a sentence. All else is a finding: another error
(traceback), the end of the process (crash), more than ten seconds (slow), a change outside of its sandbox
(outside). Inputs that come to new lines of code, new refusals or new results stay in FOLDER, as do findings,
each kind once, made smaller, and the counts of all runs. Inputs run in children of this process, which has
loaded everything.
"""

import argparse
import importlib
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import psutil

from tests.mutate.child import Child, Outcome, name_of
from tests.mutate.formats import Format
from tests.mutate.sandbox import PROJECT, Sandbox

LIMIT_S = 10.0
_ROUND_S = 15.0  # of inputs in one process
_FAILED = 70  # exit code of a child whose own code, not the project's, raised an error
_SHRINK_S = 8.0  # of each finding, after all else
_REPORT_S = 60.0
# What inputs are read with, loaded once and not in every child.
_READERS = (
    *(
        "transform.midi",
        "transform.engine",
        "transform.preset_archive",
        "daw_bridge.reaper.rpp",
        "daw_bridge.live.als",
    ),
    *(
        "daw_bridge.plan",
        "daw_bridge.commands.cli",
        "daw_bridge.batch",
        "daw_bridge.helper",
        "daw_bridge.live.running",
    ),
    *("daw_bridge.action_job", "tests.daw_bridge.kill_often", "tests.conftest", "soxr"),
)


def all_formats() -> dict[str, Format]:
    """Return the formats by name, in the order in which they are tried."""
    from tests.mutate.archives import ARCHIVE
    from tests.mutate.folders import FOLDER
    from tests.mutate.formats import FILES
    from tests.mutate.sockets import HELPER, LIVE

    for module in _READERS:
        importlib.import_module(module)
    return {made.name: made for made in (*FILES, ARCHIVE, FOLDER, HELPER, LIVE)}


class _Round:
    """A child at work, seen from its parent."""

    def __init__(self, made: Format, sandbox: Sandbox, seen: set[str], work: Callable[[Child], None]) -> None:
        self.format, self.sandbox = made, sandbox
        self.began_s, self.ended_s = time.monotonic(), 0.0
        self._input: tuple[float, float] | None = None  # since when it reads, and the CPU time of then
        self._last_cpu_s, self._last_busy_s = 0.0, 0.0
        self._text = b""
        sandbox.make()
        reading, writing = os.pipe()
        sys.stdout.flush()
        self._process = os.fork()
        if not self._process:
            code = _FAILED
            try:
                os.close(reading)
                child = Child(made, sandbox, writing, seen)
                work(child)
                code = 0
            except BaseException:
                with suppress(BaseException):
                    (sandbox.spool / "died").write_text(traceback.format_exc())
            finally:
                os._exit(code)
        os.close(writing)
        self.pipe = reading

    def outcomes(self, limit_s: float) -> Iterator[tuple[Outcome, bytes | None]]:
        """Yield what has become known: outcomes, with their inputs if these are to be kept."""
        while select.select([self.pipe], [], [], 0)[0]:
            part = os.read(self.pipe, 2**16)
            if not part:
                yield from self._end()
                return
            *lines, self._text = (self._text + part).split(b"\n")
            for line in lines:
                yield from self._told(json.loads(line), limit_s)
        if self._input is not None and (why := self._too_long(limit_s)):
            yield from self._stop(why)

    def _told(self, about: dict[str, Any], limit_s: float) -> Iterator[tuple[Outcome, bytes | None]]:
        if about.pop("begin", False):
            now_s = time.monotonic()
            self._input = now_s, about["cpu_s"]
            self._last_cpu_s, self._last_busy_s = about["cpu_s"], now_s
            return
        self._input = None
        path = self.sandbox.spool / about.pop("name")
        outcome = Outcome(**about)
        if not outcome.is_finding and outcome.cpu_s > limit_s:  # it ended while nobody looked
            outcome.kind, outcome.what, path = "slow", "it computes", self.sandbox.spool / "input"
        yield outcome, path.read_bytes() if path.exists() else None

    def _too_long(self, limit_s: float) -> str:
        """Return how an input has taken too long: computing, or waiting for what does not come."""
        began_s, began_cpu_s = self._input or (0.0, 0.0)
        now_s = time.monotonic()
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(self._process).cpu_times()
            cpu_s = times.user + times.system
            if cpu_s - self._last_cpu_s > 0.02 * (now_s - self._last_busy_s):
                self._last_cpu_s, self._last_busy_s = cpu_s, now_s
            if cpu_s - began_cpu_s > limit_s:
                return "it computes"
            if now_s - began_s > limit_s and now_s - self._last_busy_s > limit_s / 2:
                return "it waits"
            if now_s - began_s > 12 * limit_s:
                return "it takes long"
        return ""

    def _stop(self, why: str) -> Iterator[tuple[Outcome, bytes | None]]:
        with suppress(OSError):
            os.kill(self._process, signal.SIGUSR1)
            time.sleep(0.3)
            os.kill(self._process, signal.SIGKILL)
        stacks = (self.sandbox.spool / "stacks").read_text(errors="replace")
        lines = re.findall(r'File "([^"]+)", line (\d+)', stacks)
        here = [f"{Path(file).name}:{line}" for file, line in lines if file.startswith(PROJECT)]
        began_s, began_cpu_s = self._input or (0.0, 0.0)
        took_s = {"wall_s": time.monotonic() - began_s, "cpu_s": self._last_cpu_s - began_cpu_s}
        data = (self.sandbox.spool / "input").read_bytes()
        self._input = None
        yield Outcome("slow", why, here[0] if here else "", trace=stacks[-6000:], **took_s), data
        yield from self._end()

    def _end(self) -> Iterator[tuple[Outcome, bytes | None]]:
        os.close(self.pipe)
        _, status = os.waitpid(self._process, 0)
        code = os.waitstatus_to_exitcode(status)
        self.ended_s = time.monotonic()
        if self._input is not None or code not in (0, -signal.SIGKILL):
            died = self.sandbox.spool / "died"
            why = died.read_text() if died.exists() else ""
            path = self.sandbox.spool / "input"
            last = why.strip().splitlines()[-1] if why else ""
            kind = "harness" if code == _FAILED else "crash"
            outcome = Outcome(kind, f"exit code {code} {last}"[:200], trace=why)
            yield outcome, path.read_bytes() if path.exists() else b""


class Corpus:
    """A folder of inputs that are worth mutating, of findings, and of counts; it outlives the run."""

    def __init__(self, folder: Path, made: Format) -> None:
        self.folder, self.format = folder, made
        self.inputs_folder, self.findings_folder = folder / made.name, folder / "findings" / made.name
        self.seeds = list(made.seeds())
        self.inputs: list[bytes] = list(self.seeds)
        self.seen: set[str] = set()
        self.counts: dict[str, float] = defaultdict(float)
        self.inputs_folder.mkdir(parents=True, exist_ok=True)
        for about in self._lines(self.inputs_folder / "seen.jsonl"):
            self.seen.update(about["signs"])
            if (path := self.inputs_folder / (about["name"] or "none")).exists():
                self.inputs.append(path.read_bytes())
        for about in self._lines(folder / "totals.jsonl"):
            if about["format"] == made.name:
                self._add(about)

    def take(self, outcome: Outcome, data: bytes | None) -> bool:
        """Count an outcome, keep an input that is worth it; return whether it is a finding of a new kind."""
        took_s = outcome.wall_s if outcome.kind == "slow" else min(outcome.cpu_s, outcome.wall_s)
        self._add({"tried": 1, outcome.kind: 1, "slowest_s": took_s})
        if outcome.is_finding:
            folder = self.findings_folder / name_of(outcome.key.encode())
            is_first = not folder.exists()
            if is_first:
                folder.mkdir(parents=True)
                (folder / "input").write_bytes(data or b"")
                self.describe(folder, outcome)
            return is_first
        if outcome.is_new and any(sign not in self.seen for sign in outcome.signs):
            self.seen.update(outcome.signs)
            about = {"name": name_of(data) if data is not None else "", "signs": outcome.signs}
            if data is not None:
                (self.inputs_folder / about["name"]).write_bytes(data)
                self.inputs.append(data)
            with (self.inputs_folder / "seen.jsonl").open("a") as file:
                file.write(json.dumps(about) + "\n")
        return False

    def describe(self, folder: Path, outcome: Outcome) -> None:
        command = f"python -m tests.mutate --only {self.format.name} --replay {folder / 'input'}"
        about = asdict(outcome) | {"command": command}
        (folder / "finding.json").write_text(json.dumps(about, indent=1))

    def save(self, added: Mapping[str, float]) -> None:
        """Write down what was counted since the last time."""
        with (self.folder / "totals.jsonl").open("a") as file:
            file.write(json.dumps({"format": self.format.name, **added}) + "\n")

    def _add(self, counts: Mapping[str, Any]) -> None:
        for name, count in counts.items():
            if name == "slowest_s":
                self.counts[name] = max(self.counts[name], count)
            elif name != "format":
                self.counts[name] += count

    @staticmethod
    def _lines(path: Path) -> Iterator[dict[str, Any]]:
        for line in path.read_text().splitlines() if path.exists() else ():
            with suppress(ValueError):
                yield json.loads(line)


class Mutator:
    """Spends time on formats, the same on each, and keeps what it learns in a folder."""

    def __init__(
        self, formats: Sequence[Format], folder: Path, *, seed: int = 0, limit_s: float = LIMIT_S
    ) -> None:
        self._corpora = {made.name: Corpus(folder, made) for made in formats}
        self._spent_s = dict.fromkeys(self._corpora, 0.0)
        self._seed, self._limit_s = seed, limit_s
        self._rooms = Path(tempfile.mkdtemp(prefix="redrum-mutate-"))
        self._saved = {name: dict(corpus.counts) for name, corpus in self._corpora.items()}
        self.findings: list[tuple[str, Outcome, bytes]] = []  # of this run

    def run(self, seconds: float, jobs: int = 1, say: Callable[[str], None] = print) -> None:
        """Mutate for a time."""
        until_s = time.monotonic() + seconds
        report_s = time.monotonic() + _REPORT_S
        rounds: dict[int, _Round] = {}
        try:
            while rounds or time.monotonic() < until_s:
                for job in range(jobs):
                    if job not in rounds and time.monotonic() < until_s:
                        rounds[job] = self._round(job, until_s)
                select.select([one.pipe for one in rounds.values()], [], [], 0.2)
                for job, one in list(rounds.items()):
                    self._take(one, say)
                    if one.ended_s:
                        self._spent_s[one.format.name] += one.ended_s - one.began_s
                        self._save(one.format.name, one.ended_s - one.began_s)
                        del rounds[job]
                if time.monotonic() > report_s:
                    report_s = time.monotonic() + _REPORT_S
                    say(self.table())
            for name, outcome, data in self.findings:
                if outcome.kind in ("traceback", "crash", "outside"):
                    folder = self._corpora[name].findings_folder / name_of(outcome.key.encode())
                    (folder / "input").write_bytes(self._shrunk(self._corpora[name].format, data, outcome))
        finally:
            shutil.rmtree(self._rooms, ignore_errors=True)

    def _round(self, job: int, until_s: float) -> _Round:
        """Start a child for the format that has had the least time."""
        name = min(self._spent_s, key=self._spent_s.__getitem__)
        self._spent_s[name] += 1e-3  # the next job takes another one
        corpus = self._corpora[name]
        chance = Random(f"{self._seed} {name} {corpus.counts['tried']:.0f} {job}")
        share_s = min(_ROUND_S, max(0.5, (until_s - time.monotonic()) / len(self._corpora)))
        is_first = not corpus.counts["tried"]

        def work(child: Child) -> None:
            if is_first:  # the inputs that all others come from
                for data in corpus.seeds:
                    child.attempt(data, traced=True)
            child.run(chance, corpus.inputs, min(until_s, time.monotonic() + share_s))

        return _Round(corpus.format, Sandbox(self._rooms / str(job)), corpus.seen, work)

    def _take(self, one: _Round, say: Callable[[str], None]) -> None:
        corpus = self._corpora[one.format.name]
        for outcome, data in one.outcomes(self._limit_s):
            if outcome.kind == "slow" and data is not None and not self.once(one.format, data).is_finding:
                outcome = Outcome("refused", "slow, but not again")  # somebody else used this machine
            if not corpus.take(outcome, data):
                continue
            self.findings.append((one.format.name, outcome, data or b""))
            say(f"{one.format.name}: {outcome.kind}, {outcome.what[:100]}, {outcome.where}")

    def once(self, made: Format, data: bytes) -> Outcome:
        """Return what becomes of one input, in a child of its own."""
        one = _Round(made, Sandbox(self._rooms / "once"), set(), lambda child: child.attempt(data))
        found = Outcome("crash", "it said nothing")
        while not one.ended_s:
            select.select([one.pipe], [], [], 0.2)
            for outcome, _ in one.outcomes(self._limit_s):
                found = outcome
        return found

    def _shrunk(self, made: Format, data: bytes, found: Outcome) -> bytes:
        """Return a smaller input with the same fault: parts are left out as long as time allows."""
        give_up_s = time.monotonic() + _SHRINK_S
        text = made.opened(data)
        size = len(text) // 2
        while size and time.monotonic() < give_up_s:
            at = 0
            while at < len(text) and time.monotonic() < give_up_s:
                less = text[:at] + text[at + size :]
                with suppress(Exception):
                    if less and self.once(made, made.closed(less)).key == found.key:
                        text = less
                        continue
                at += size
            size //= 2
        smaller = made.closed(text)
        return smaller if self.once(made, smaller).key == found.key else data

    def _save(self, name: str, spent_s: float) -> None:
        corpus = self._corpora[name]
        corpus.counts["seconds"] += spent_s
        before = self._saved[name]
        added = {key: count - before.get(key, 0) for key, count in corpus.counts.items() if key != "slowest_s"}
        corpus.save({**added, "slowest_s": corpus.counts["slowest_s"]})
        self._saved[name] = dict(corpus.counts)

    def counts(self) -> dict[str, dict[str, float]]:
        """Return the counts of all runs."""
        return {name: dict(corpus.counts) for name, corpus in self._corpora.items()}

    def table(self) -> str:
        """Return the counts of all runs as a table."""
        rows = [
            (
                "FORMAT",
                "MINUTES",
                "TRIED",
                "READ",
                "REFUSED",
                "SLOWEST",
                "TRACEBACKS",
                "OVER 10 s",
                "CRASHES",
                "OUTSIDE",
                "KEPT",
            )
        ]
        for name, corpus in self._corpora.items():
            n = corpus.counts
            told = [f"{n[key]:.0f}" for key in ("tried", "read", "refused")]
            found = [f"{n[key]:.0f}" for key in ("traceback", "slow", "crash", "outside")]
            minutes, slowest = f"{n['seconds'] / 60:.1f}", f"{n['slowest_s']:.2f} s"
            rows.append((name, minutes, *told, slowest, *found, str(len(corpus.inputs))))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        )


def main(arguments: Sequence[str] | None = None, formats: Mapping[str, Format] | None = None) -> int:
    """Run the command; the exit code says whether anything was found."""
    formats = formats or all_formats()
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "redrum-mutate")
    parser.add_argument("--only", default=",".join(formats), help=f"of {','.join(formats)}")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that an input may take")
    parser.add_argument("--replay", type=Path, help="read this one input of --only")
    given = parser.parse_args(arguments)
    if not hasattr(os, "fork"):
        parser.error("this system has no fork")
    if unknown := [name for name in given.only.split(",") if name not in formats]:
        parser.error(f"there is no format {unknown[0]}; there are {', '.join(formats)}")
    chosen = [formats[name] for name in given.only.split(",")]
    given.corpus = given.corpus.absolute()
    if given.replay:
        with tempfile.TemporaryDirectory() as folder:
            outcome = Mutator(chosen[:1], Path(folder), limit_s=given.limit).once(
                chosen[0], given.replay.read_bytes()
            )
        print(outcome.trace + json.dumps({**asdict(outcome), "trace": ""}))
        return int(outcome.is_finding)
    mutator = Mutator(chosen, given.corpus, seed=given.seed, limit_s=given.limit)
    mutator.run(60 * given.minutes, given.jobs)
    print(mutator.table())
    for name, counts in mutator.counts().items():
        print(json.dumps({"format": name, **counts}))
    return int(bool(mutator.findings))


if __name__ == "__main__":
    sys.exit(main())
