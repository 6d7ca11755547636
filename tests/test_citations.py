"""What the code and the docs cite is there: decisions of docs/method.md, documents, and code."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
METHOD = ROOT / "docs" / "method.md"
TEXTS = (".py", ".md", ".toml", ".csv", ".lua")
WRITTEN = {
    "ablation.md",
    "batch.md",
    "kits.md",
    "speed.md",
}  # by the benches, into a folder that is named to them


def texts():
    """Return every text file of the project by its name: those of git, or, outside a checkout, what is here."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout
        names = listed.split("\0")
    except (OSError, subprocess.CalledProcessError):
        tops = ("daw_bridge", "transform", "training", "presets", "tests", "docs")
        found = [*ROOT.glob("*.*"), *(path for top in tops for path in (ROOT / top).rglob("*.*"))]
        names = [path.relative_to(ROOT).as_posix() for path in found]
    paths = {name: ROOT / name for name in names if name.endswith(TEXTS) and (ROOT / name).is_file()}
    return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in paths.items()}


def cited_decisions(text):
    """Return the numbers in "decision 4", "decisions 2 and 4", "decisions 12 to 15", also across lines."""
    flat = re.sub(r"\s*\n[\s#]*", " ", text)
    numbers = set()
    for listed in re.findall(r"\b[Dd]ecisions? (\d+(?:(?:,? and |, | to )\d+)*)", flat):
        numbers |= {int(number) for number in re.findall(r"\d+", listed)}
        for first, last in re.findall(r"(\d+) to (\d+)", listed):
            numbers |= set(range(int(first), int(last) + 1))
    return numbers


def cited_documents(text):
    return set(re.findall(r"(?<![\w./*-])(?:[\w.-]+/)*[\w-]+\.md\b", text))


def is_there(document, by):
    """Tell whether a cited document is in the tree: from the root, from docs/ or beside the file."""
    folders = (ROOT, ROOT / "docs", (ROOT / by).parent)
    return any((folder / document).is_file() for folder in folders) or (
        "/" not in document and any(ROOT.glob(f"presets/*/{document}"))
    )


def decided():
    return [
        int(n) for n in re.findall(r"^(?:- )?\*\*(\d+)\.", METHOD.read_text(encoding="utf-8"), re.MULTILINE)
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("as decision 4 says", {4}),
        ("(docs/method.md, decision\n    12); an", {12}),
        ("# said (docs/method.md, decision\n    # 15)", {15}),
        ("decisions 12 to 15", {12, 13, 14, 15}),
        ("Decisions 2, 4 and 10", {2, 4, 10}),
        ("a decision. 3 of them", set()),
    ],
)
def test_citations_are_read(text, numbers):
    assert cited_decisions(text) == numbers


def test_decisions_are_numbered_from_one_without_a_gap():
    assert decided() == list(range(1, len(decided()) + 1))


def test_every_decision_that_is_cited_is_in_the_method():
    files = texts()
    cited = {name: cited_decisions(text) for name, text in files.items() if name != "tests/test_citations.py"}
    known = set(decided())
    assert {name: numbers - known for name, numbers in cited.items() if numbers - known} == {}
    assert len(set().union(*(numbers for name, numbers in cited.items() if name.endswith(".py")))) > 10


def test_every_document_that_is_cited_is_in_the_tree():
    assert cited_documents("see docs/design.md, (method.md) and `../default/CARD.md`.") == {
        "docs/design.md",
        "method.md",
        "../default/CARD.md",
    }
    assert is_there("method.md", "transform/events.py")
    assert not is_there("docs/design.md", "transform/events.py")
    lost = {
        (name, document)
        for name, text in texts().items()
        if name != "tests/test_citations.py"
        for document in cited_documents(text) - WRITTEN
        if not is_there(document, name)
    }
    assert not lost


def cited_code(text):
    """Return the files of the packages that a text names by path, or as modules to run."""
    paths = re.findall(r"(?<![\w/])((?:daw_bridge|transform|training|tests)/[\w/]+\.\w+)", text)
    modules = re.findall(r"python -m ((?:daw_bridge|training)\.\w+)", text)
    return {*paths, *(f"{module.replace('.', '/')}.py" for module in modules)}


def test_code_that_the_docs_name_is_in_the_tree():
    assert cited_code("`training/lost.py`, `python -m training.bench_lost --out DIR`, x/training/y.py") == {
        "training/lost.py",
        "training/bench_lost.py",
    }
    docs = {name: text for name, text in texts().items() if name.endswith(".md") and name != "CHANGELOG.md"}
    cited = {(name, path) for name, text in docs.items() for path in cited_code(text)}
    assert len(cited) > 20
    assert not {(name, path) for name, path in cited if not (ROOT / path).exists()}


def test_the_newcomers_walk_leads_to_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = text[text.index("## A newcomer's walk") :]
    tasks = [line.split("|")[2] for line in walk.splitlines() if line.startswith("| ") and "---" not in line][
        1:
    ]
    assert len(tasks) >= 10
    for opened in tasks:
        named = re.findall(r"`([a-z_]+/[\w/.*]+\.\w+)`", opened)
        assert 1 <= len(named) <= 3
        for name in named:
            assert list(ROOT.glob(name.replace("NAME", "*"))), name
