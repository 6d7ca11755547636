"""What is released holds what it must: every module, all data and licences, and nothing of this machine."""

import configparser
import csv
import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from daw_bridge.reaper.install import ACTIONS, SHARED

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("daw_bridge", "presets", "training", "transform")
LICENCES = (
    "LICENSE",
    "presets/LICENCES.md",
    "presets/default/CARD.md",
    "presets/demo/SOURCES.csv",
    "presets/evaluation/CARD.md",
    "presets/rhythms/SOURCES.csv",
    "presets/spare/SOURCES.csv",
)
MOST_BYTES = 44_000_000  # of either file, as of the tree
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The folder with the wheel and the sdist, built from what is here."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the release, is not installed")
    folder = tmp_path_factory.mktemp("release")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def tracked():
    """Return every file of the project that git has, by its name from here on."""
    command = ["git", "ls-files", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout: nothing says which files belong to the project")
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_packages_and_their_data(release):
    (wheel,) = release.glob("*.whl")
    assert wheel.name == f"latent_redrum-{PROJECT['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        for name in held:
            assert archive.read(name) == (ROOT / name).read_bytes()
    assert held >= {name for name in tracked() if name.partition("/")[0] in PACKAGES}
    assert {name.partition("/")[0] for name in held} == set(PACKAGES)
    assert not [name for name in held if "__pycache__" in name]
    assert_all_there(held)


def assert_all_there(held):
    """Check that files of a release hold what a user needs, whatever git says."""
    with (ROOT / "presets" / "rhythms" / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        rhythms = [f"presets/rhythms/{row['name']}.mid" for row in csv.DictReader(file)]
    with (ROOT / "presets" / "demo" / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        loops = [f"presets/demo/{row['file']}" for row in csv.DictReader(file)]
    preset = tomllib.loads((ROOT / "presets" / "default" / "preset.toml").read_text(encoding="utf-8"))
    models = [f"presets/default/{model}.safetensors" for model in preset["models"]]
    scripts = [f"daw_bridge/reaper/actions/{script}" for script in (*ACTIONS, *SHARED)]
    remote = ["daw_bridge/live/redrum_live/__init__.py", "daw_bridge/reaper/actions/redrum_server.py"]
    lua = [f"daw_bridge/ardour/actions/{name}.lua" for name in ("action", "redrum", "redrum_session")]
    page = [path.relative_to(ROOT).as_posix() for path in (ROOT / "daw_bridge" / "editor" / "page").iterdir()]
    with (ROOT / "presets" / "spare" / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        spare = [f"presets/spare/{row['file']}" for row in csv.DictReader(file)]
    judge = "presets/evaluation/transcriber-evaluation.safetensors"
    assert len(rhythms) == 75
    assert len(loops) == 3
    assert len(models) == 6
    assert {f"daw_bridge/editor/page/{name}" for name in ("index.html", "main.js", "editor.css")} <= set(page)
    assert len(spare) == 28
    assert held >= {*rhythms, *loops, *spare, *models, judge, "presets/LICENCES.md"}
    assert held >= {*scripts, *remote, *lua, *page}


def test_neither_is_larger_than_the_tree_may_be(release):
    assert all(path.stat().st_size < MOST_BYTES for path in release.iterdir())


def test_the_wheel_says_what_it_is(release):
    (wheel,) = release.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        info = f"latent_redrum-{PROJECT['version']}.dist-info"
        licences = [name for name in archive.namelist() if name.startswith(f"{info}/licenses/")]
        for name in licences:
            assert archive.read(name) == (ROOT / name.removeprefix(f"{info}/licenses/")).read_bytes()
        about = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = configparser.ConfigParser()
        scripts.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert {name.removeprefix(f"{info}/licenses/") for name in licences} == set(LICENCES)
    assert set(about.get_all("License-File")) == set(LICENCES)
    assert about["Name"] == PROJECT["name"]
    assert about["License-Expression"] == "MIT AND CC0-1.0 AND CC-BY-4.0"
    assert about["Requires-Python"] == PROJECT["requires-python"]
    assert scripts["console_scripts"]["redrum"] == "daw_bridge.__main__:main"


def test_the_sdist_holds_the_project_and_nothing_else(release):
    (sdist,) = release.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= tracked() - {".gitignore"}
    assert_all_there(held)
    tops = {name.partition("/")[0] for name in held}
    assert tops <= {
        *PACKAGES,
        "tests",
        "docs",
        ".ci",
        ".github",
        "PKG-INFO",
        *(p for p in tracked() if "/" not in p),
    }


def test_the_changelog_tells_of_this_version():
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line.split()[1] for line in lines if line.startswith("## ")]
    assert next(version for version in versions if version != "Unreleased") == PROJECT["version"]
    assert len(set(versions)) == len(versions)


def test_the_workflow_runs_the_gates_on_every_system_with_the_oldest_python():
    yaml = pytest.importorskip("yaml", reason="PyYAML, which dask brings along, is not installed")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "gates.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["gates"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "windows", "macos"}
    pythons = {*matrix["python"], *(more["python"] for more in matrix["include"])}
    assert f">={min(pythons, key=lambda version: int(version.split('.')[1]))}" == PROJECT["requires-python"]
    scripts = {
        word
        for job in jobs.values()
        for step in job["steps"]
        for word in step.get("run", "").split()
        if word.endswith(".py")
    }
    assert scripts == {"tests/gates.py", "tests/rehearse_release.py"}
    assert all((ROOT / script).is_file() for script in scripts)
