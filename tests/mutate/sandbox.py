"""A place in which inputs may do harm: it tells what they tried to touch outside of it, and hinders them.

Two witnesses: a hook that Python calls before it writes, moves or removes anything, and a look at the files
that lie around the place, before and after. The hook does not see what C code does, nor `os.open` relative to a
folder that is open; the look does.
"""

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tuple(str(ROOT / package) for package in ("daw_bridge", "transform", "training"))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
# Which arguments of an event are paths that change, and which say beside what folder they lie, if any.
_CHANGES = {
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.removexattr": ((0, None),),
    "os.setxattr": ((0, None),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
}
_FOLLOWED = ("open", "os.chmod", "os.truncate", "os.setxattr")  # they change what a link points at
_PROGRAMS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.startfile", "pty.spawn")

PRECIOUS = {
    "home/.ssh/authorized_keys": "a key\n",
    "home/.bashrc": "# mine\n",
    "home/.config/settings.toml": "mine = 1\n",
    "home/.local/share/other/state.json": "{}\n",
    "precious/thesis.txt": "no end of line",
    "precious/manifest.jsonl": '{"audio": "1.wav"}\n{"audio": "2.wav"}',
    "precious/.redrum-batch/a.wav": "not of a batch",
    "precious/sub/deep.txt": "deep\n",
    "song.wav": "a song\n",
}


class Sandbox:
    """Folders under one: `inside`, where everything is allowed, and `outside`, where nothing is."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.inside, self.outside, self.spool = (self.root / n for n in ("inside", "outside", "spool"))
        self.touched: list[str] = []  # what was tried outside
        self.where = ""  # the line of the project that tried it first
        self._is_watching = False

    def make(self) -> None:
        """Make the folders, and files outside that nobody may touch."""
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in (self.inside / "tmp", self.outside / "empty", self.spool):
            folder.mkdir(parents=True)
        for name, text in PRECIOUS.items():
            path = self.outside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def enter(self) -> None:
        """Make this process, which does not come out again, one whose user lives in the sandbox."""
        home = self.outside / "home"
        os.environ.update(
            HOME=str(home),
            USERPROFILE=str(home),
            LOCALAPPDATA=str(home),
            XDG_CONFIG_HOME=str(home / ".config"),
            XDG_DATA_HOME=str(home / ".local/share"),
            XDG_CACHE_HOME=str(home / ".cache"),
            XDG_STATE_HOME=str(home / ".local/state"),
            XDG_RUNTIME_DIR=str(home / ".run"),
            TMPDIR=str(self.inside / "tmp"),
            MPLCONFIGDIR=str(self.inside / "tmp"),
            REDRUM_DATA=str(self.inside / "data"),
        )
        tempfile.tempdir = None
        sys.dont_write_bytecode = True
        os.chdir(self.inside)
        sys.addaudithook(self._notice)

    def watch(self) -> dict[str, tuple[object, ...]]:
        """Begin to notice what is tried outside; return what lies there."""
        self.touched.clear()
        self.where = ""
        self._is_watching = True
        return self._looks()

    def unwatch(self, before: dict[str, tuple[object, ...]]) -> list[str]:
        """Stop it; return what was touched outside, or was to be."""
        self._is_watching = False
        after = self._looks()
        names = sorted(before.keys() | after.keys())
        return [*self.touched, *(f"changed: {name}" for name in names if before.get(name) != after.get(name))]

    def empty(self) -> None:
        """Remove what lies inside; folders that it forbids to remove are allowed first."""
        for place, folders, _ in os.walk(self.inside):
            for name in folders:
                path = os.path.join(place, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(self.inside, ignore_errors=True)
        (self.inside / "tmp").mkdir(parents=True)
        os.chdir(self.inside)

    def _looks(self) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {"": tuple(sorted(os.listdir(self.root)))}
        for place, folders, files in os.walk(self.outside):
            for name in ("", *folders, *files):
                path = os.path.join(place, name).rstrip("/")
                about = os.lstat(path)
                facts: tuple[object, ...] = (about.st_mode, about.st_ino, about.st_mtime_ns, about.st_size)
                if stat.S_ISREG(about.st_mode):
                    facts += (about.st_nlink, hashlib.sha256(Path(path).read_bytes()).digest())
                elif stat.S_ISLNK(about.st_mode):
                    facts += (os.readlink(path),)
                found[os.path.relpath(path, self.root)] = facts
        return found

    def _notice(self, event: str, arguments: tuple[object, ...]) -> None:
        """Note a change outside, and refuse it; Python calls this before it does anything."""
        if not self._is_watching:
            return
        if event in _PROGRAMS:
            self._refuse(event, arguments[0])
        elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] != "127.0.0.1":
            self._refuse(event, arguments[1])
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._check(event, arguments[0], None)
        elif event in _CHANGES:
            for place, folder in _CHANGES[event]:
                beside = None if folder is None or folder >= len(arguments) else arguments[folder]
                self._check(event, arguments[place], beside)

    def _check(self, event: str, path: object, folder: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a file that is open already
        where = os.fsdecode(path)
        try:
            if isinstance(folder, int) and folder >= 0:
                where = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), where)
            parent, name = os.path.split(where.rstrip("/"))
            is_followed = event in _FOLLOWED or name in ("", ".", "..")
            real = (
                os.path.realpath(where) if is_followed else os.path.join(os.path.realpath(parent or "."), name)
            )
        except (OSError, ValueError):
            return  # no path, as the call itself will find
        if real != os.devnull and not any(Path(real).is_relative_to(p) for p in (self.inside, self.spool)):
            self._refuse(event, real)

    def _refuse(self, event: str, what: object) -> None:
        shown = str(what).replace(str(self.root), "SANDBOX")[:200]
        self.touched.append(f"{event}: {shown}")
        self.where = self.where or _line_of_project()
        raise PermissionError(errno.EACCES, "not in the sandbox", shown)


def _line_of_project() -> str:
    """Return the innermost line of the project that is running in this thread."""
    frame = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith(PROJECT):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""
