import ast
import importlib
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("daw_bridge", "presets", "training", "transform")
FOLDERS = {"daw_bridge", "transform", "training", "presets", "tests", "docs", ".ci", ".github"}
ROOT_FILES = {".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "pyproject.toml"}
MAY_IMPORT = {
    "transform": set(),  # it reads `presets` as data, through importlib.resources
    "training": {"transform"},
    "daw_bridge": {"transform"},
    "presets": set(),
}
LAZY_TOOLS = {"import_module", "TYPE_CHECKING"}  # what transform/__init__.py needs to load names late
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def tracked_files():
    """Return every file of the project: those git has or would add, or, outside a checkout, what is here."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout
    except (OSError, subprocess.CalledProcessError):
        return [path for name in (*FOLDERS, *ROOT_FILES) for path in _files(ROOT / name)]
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def _files(path):
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def imports(path):
    """Return (module, inside a function) of each import of a source file, relative ones made absolute."""
    package = path.relative_to(ROOT).parent.parts

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((name.name, inside) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else ()
                module = ".".join([*base, *filter(None, [child.module])])
                yield from ((name, inside) for name in (module, *(f"{module}.{n.name}" for n in child.names)))
            yield from walk(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    return list(walk(ast.parse(path.read_text(encoding="utf-8")), False))


def is_command_line(path):
    return path.stem == "__main__" or path.parent == ROOT / "daw_bridge" / "commands"


@pytest.fixture(scope="module")
def reached():
    """Return which of our modules, and whether Typer, each module imports in the end, at whatever moment."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    near = {
        path: {names.get(module, module) for module, _ in imports(path)} & {*MODULES, "typer"}
        for path in MODULES
    }

    def reach(path, found):
        for other in near.get(path, set()) - found:
            found.add(other)
            reach(other, found)
        return found

    return {path: reach(path, set()) for path in MODULES}


def module_id(path):
    return path.relative_to(ROOT).as_posix()


def test_root_holds_the_agreed_folders_and_files():
    top = {path.relative_to(ROOT).parts for path in tracked_files()}
    assert {parts[0] for parts in top if len(parts) > 1} == FOLDERS
    assert {parts[0] for parts in top if len(parts) == 1} == ROOT_FILES


def test_imports_point_at_transform(subtests):
    for path in MODULES:
        with subtests.test(module_id(path)):
            package = path.relative_to(ROOT).parts[0]
            is_cli = path == ROOT / "daw_bridge" / "commands" / "cli.py"
            for module, inside in imports(path):
                other = module.partition(".")[0]
                if other not in PACKAGES or other == package:
                    continue
                lazily = is_cli and other == "training" and inside
                assert other in MAY_IMPORT[package] or lazily, f"{module_id(path)} imports {module}"


def test_only_the_command_line_knows_typer(reached):
    known = {module_id(path) for path in MODULES if "typer" in reached[path]}
    assert known <= {module_id(path) for path in MODULES if is_command_line(path) and path.stem != "__init__"}


def test_no_module_imports_itself_in_the_end(reached):
    assert not [module_id(path) for path in MODULES if path in reached[path]]


def test_torchaudio_stays_in_functions_of_training(subtests):
    for path in MODULES:
        with subtests.test(module_id(path)):
            # With a torch that it was not built for, importing torchaudio raises: only training pays for that.
            inside = [inside for module, inside in imports(path) if module.partition(".")[0] == "torchaudio"]
            assert all(inside)
            assert not inside or path.is_relative_to(ROOT / "training")


def test_every_program_guards_its_output(subtests):
    cases = [path for path in MODULES if '__name__ == "__main__"' in path.read_text("utf-8")]
    for path in cases:
        with subtests.test(module_id(path)):
            # Then none of its commands, nor Python's own tracebacks, can print what a terminal obeys.
            if "actions" not in path.parts:  # which REAPER runs: there is no terminal
                assert "guard_output()" in path.read_text("utf-8")


def test_no_module_is_called_utils():
    assert not [path for path in MODULES if path.stem in ("utils", "util", "helpers", "common")]


def run_python(code):
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_import_transform_loads_next_to_nothing():
    loaded = set(run_python("import sys, transform; print(*sys.modules)"))
    assert not loaded & {"torch", "torchaudio", "numpy", "soundfile", "mido", "typer", "reapy"}


def test_help_loads_no_torch():
    code = """
import contextlib, io, sys
from daw_bridge.commands.cli import main
sys.argv = ["redrum", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    main()
assert "render" in shown.getvalue()
print(*sys.modules)
"""
    heavy = {"torch", "torchaudio", "matplotlib", "scipy", "reapy", "starlette", "uvicorn"}
    assert not set(run_python(code)) & heavy


@pytest.mark.parametrize("name", PACKAGES)
def test_all_lists_the_public_names(name):
    package = importlib.import_module(name)
    eager = {
        public
        for public, value in vars(package).items()
        if not public.startswith("_") and not isinstance(value, types.ModuleType) and public not in LAZY_TOOLS
    }
    assert len(package.__all__) == len(set(package.__all__))
    assert eager <= set(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        assert getattr(package, public) is not None


def test_lazy_names_say_the_same_thrice():
    # A type checker reads the imports, `import *` reads __all__, and a running program reads _HOME_OF.
    tree = ast.parse((ROOT / "transform" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    checked = {name.name: node.module for node in block.body for name in node.names}
    transform = importlib.import_module("transform")
    assert {name: f"transform.{home}" for name, home in transform._HOME_OF.items()} == checked
    assert set(transform.__all__) == set(checked)


def test_unknown_lazy_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("transform").no_such_name  # noqa: B018


def test_nothing_names_the_machine_it_was_made_on():
    # Spelled in pieces, so that this file does not find itself.
    places = "|".join(["/" + "work/", "/" + "farm/", "/" + "tmp/plan", "/" + "root/", "/" + "home/[a-z]"])
    hosts = "|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch\.org"])
    pattern = re.compile(rf"(?<![\w.])(?:{places})|{hosts}".encode())
    named = {}
    for path in tracked_files():
        if path.suffix not in (".flac", ".safetensors") and (found := pattern.search(path.read_bytes())):
            named[module_id(path)] = found.group().decode()
    assert not named


def test_tracked_tree_stays_small():
    assert sum(path.stat().st_size for path in tracked_files()) <= 45_000_000
    assert sum(path.stat().st_size for path in _files(ROOT / "presets" / "demo")) <= 2_500_000


def test_ci_runs_exactly_the_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert command.startswith("python3 -m venv ")
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()


def test_first_readme_line_about_the_demo_sets_up_and_runs_it():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(line for line in lines if "redrum demo" in line)
    assert first == "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/redrum demo"
