"""Rehearse a release: build it, install it where nothing else is, use it, take it away; print what was seen.

    python tests/rehearse_release.py FOLDER

FOLDER is made. It takes the wheel, the sdist, and a virtual environment of 6 GB: PyTorch comes from pip's index
in minutes. An environment that is there from the last rehearsal is used again. What fails first ends it.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
N_SHOWN = 6  # lines of an output, at either end
UNFIT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # would let in what is not installed


class Rehearsal:
    """A virtual environment, an empty folder in which it is used, and what is printed of both."""

    def __init__(self, folder: Path) -> None:
        self.dist, self.place = folder / "dist", folder / "Probe, käse 鼓"
        self._bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self._environment = {name: value for name, value in os.environ.items() if name not in UNFIT}
        self._environment |= {"PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "110"}
        emptied(self.dist)
        emptied(self.place)
        if self._bin.exists():
            self.run("pip", "uninstall", "-q", "-y", "latent-redrum")
        else:
            venv.create(folder / "venv", with_pip=True)

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of the environment in the empty folder and print what it says."""
        print("$", program, *(f'"{word}"' if " " in word else word for word in arguments), flush=True)
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        lines = done.stdout.rstrip().splitlines()
        if len(lines) > 2 * N_SHOWN and not done.returncode:
            lines[N_SHOWN:-N_SHOWN] = [f"... ({len(lines) - 2 * N_SHOWN} lines)"]
        print(*lines, sep="\n", flush=True)
        if done.returncode:
            sys.exit(f"exit code {done.returncode}")

    def left(self) -> list[str]:
        """Return what of Redrum is among the packages of the environment."""
        folders = self._bin.parent.rglob("site-packages/*")
        ours = ("daw_bridge", "transform", "training", "presets", "latent_redrum")
        return [path.name for path in folders if path.name.startswith(ours) and any(path.rglob("*.*"))]


def build(rehearsal: Rehearsal) -> tuple[Path, Path]:
    """Build the wheel and the sdist, and return their paths."""
    print("$ python -m hatchling build", flush=True)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(rehearsal.dist)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(done.stderr)
    for path in sorted(rehearsal.dist.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    (wheel,), (sdist,) = rehearsal.dist.glob("*.whl"), rehearsal.dist.glob("*.tar.gz")
    return wheel, sdist


def use(rehearsal: Rehearsal) -> None:
    """Do in an empty folder what a new user does, and a render with each engine."""
    emptied(rehearsal.place)
    for words in ("--version", "demo", "doctor", "presets list", "rhythms list"):
        rehearsal.run("redrum", *words.split())
    shutil.copy(
        ROOT / "presets" / "demo" / "electronic-half-time-140bpm.flac", rehearsal.place / "schlägel.flac"
    )
    for engine in ("resequence", "latent"):
        words = f"render schlägel.flac --rhythm hip-hop-bounce-140 --engine {engine} -o {engine}.wav"
        rehearsal.run("redrum", *words.split())


def emptied(folder: Path) -> None:
    """Make a folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def main() -> None:
    """Rehearse with the wheel, then with the sdist."""
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/rehearse_release.py FOLDER")
    rehearsal = Rehearsal(Path(sys.argv[1]).resolve())
    for package in build(rehearsal):
        rehearsal.run("pip", "install", "-q", os.path.relpath(package, rehearsal.place))
        use(rehearsal)
        rehearsal.run("pip", "uninstall", "-y", "latent-redrum")
        if left := rehearsal.left():
            sys.exit(f"left after it was uninstalled: {', '.join(left)}")


if __name__ == "__main__":
    main()
