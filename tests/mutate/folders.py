"""Folders of results as a format: what somebody may have put into one, beside or instead of its manifest."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

from tests.mutate.faults import BRACKETS, MOST_BYTES, mutated
from tests.mutate.formats import Format
from tests.mutate.sandbox import PRECIOUS, Sandbox

Tree = dict[str, list[str]]  # of a folder: path in it -> kind and contents

_PLACES = (
    *(
        ".redrum-batch",
        ".redrum-batch/k.wav",
        ".redrum-batch/sub/k.wav",
        "manifest.jsonl",
        "manifest.jsonl.part",
    ),
    *("song_beat.wav", "sub", "sub/song_beat.wav", "s", "s/k.wav", ".redrum-0123456789abcdef.part"),
    "",
)
_TARGETS = (
    *("{outside}", "{outside}/empty", "{outside}/nothing", "{outside}/precious", "{outside}/home/.ssh"),
    *(f"{{outside}}/{name}" for name in PRECIOUS),
    *("/dev/zero", "/dev/null", "..", ".", "manifest.jsonl"),
)
_RESULTS = (
    *(
        "song_beat.wav",
        "k.wav",
        "s/authorized_keys",
        "s/thesis.txt",
        "sub/song_beat.wav",
        "../outside/song.wav",
    ),
    *("{outside}/precious/thesis.txt", ".redrum-batch/k.wav", "manifest.jsonl", ".", "a/b/c/d.wav", "s", "con"),
    "",
)
_STAGED = (*("k.wav", "../k.wav", "sub/k.wav", ".", "..", "../manifest.jsonl", "{outside}/song.wav"), "")
_VALUES = (
    *(None, 1, -1, 1e308, math.nan, True, False, [], {}, [[]]),
    *("", "x", "\0", "\ud800", "a" * 300, "failed", "done"),
)
_OPTIONS = (
    *([], [], ["--overwrite"], ["--skip-existing"], ["--dry-run"]),
    *(["--json"], ["--verbose"], ["--out", "."]),
)
_BATCH = ("batch", "../outside/music", "--rhythm", "../outside/beat.mid", "--jobs", 1, "--out", "out")
_MADE: dict[str, bytes] = {}  # by a batch that nobody disturbed: its manifest and its take


def _folders() -> list[bytes]:
    """Return folders of results: one that a batch made, one that a killed batch left, and strangers'."""
    left = _manifest_line("song_beat.wav", "k.wav", b"a take", overwrite=False)
    trees = [
        {"manifest.jsonl": ["file", "{manifest}"], "song_beat.wav": ["take"]},
        {"manifest.jsonl": ["file", left + "\n"], ".redrum-batch/k.wav": ["file", "a take"]},
        {"manifest.jsonl": ["file", '{"audio": "1.wav"}\n{"audio": "2.wav"}']},
        {".redrum-batch": ["link", "{outside}/precious"]},
        {},
    ]
    return [json.dumps({"tree": tree, "options": []}).encode() for tree in trees]


def _manifest_line(output: str, staged: str, content: bytes, *, overwrite: bool) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    line = {
        "schema": 1,
        "status": "done",
        "output": output,
        "output_sha256": sha256,
        "key": "x",
        "overwrite": overwrite,
    }
    files = [{"staged": staged, "path": output, "sha256": sha256}]
    return json.dumps({**line, "finished": files, "recorded_s": 1.0, "report": {"seconds": 0.1}})


def _mutate_folder(chance: Random, data: bytes, other: bytes) -> bytes:
    about = json.loads(data)
    tree = about["tree"]
    for _ in range(chance.choice([1, 2, 2, 3, 5])):
        match chance.choice(
            ["plant", "plant", "line", "recover", "recover", "bytes", "options", "gone", "mix"]
        ):
            case "plant":
                kind = chance.choice(["link", "link", "file", "dir", "fifo", "locked"])
                tree[chance.choice(_PLACES)] = [kind, chance.choice(_TARGETS)]
            case "line":
                _edit_manifest(tree, partial(_line_mutated, chance))
            case "recover":
                content, output = chance.choice(["a take", "", "evil\n"]), chance.choice(_RESULTS)
                staged = chance.choice(["k.wav", chance.choice(_STAGED)])
                line = _manifest_line(output, staged, content.encode(), overwrite=chance.random() < 0.7)
                _edit_manifest(tree, lambda text, line=line: text + line + "\n")
                tree.setdefault(".redrum-batch/k.wav", ["file", content])
                if output.startswith("s/"):
                    tree.setdefault("s", ["link", chance.choice(["{outside}/home/.ssh", "{outside}/precious"])])
            case "bytes":
                _edit_manifest(tree, lambda text: _text_mutated(chance, text))
            case "options":
                about["options"] = chance.choice(_OPTIONS)
            case "gone" if tree:
                del tree[chance.choice(list(tree))]
            case "mix":
                tree.update(json.loads(other)["tree"])
    return json.dumps(about).encode()


def _text_mutated(chance: Random, text: str) -> str:
    data = text.encode("utf-8", "surrogatepass") or b"{}"
    return mutated(chance, data, data, BRACKETS)[:MOST_BYTES].decode("utf-8", "replace")


def _edit_manifest(tree: Tree, edit: Callable[[str], str]) -> None:
    kind, *text = tree.get("manifest.jsonl", ["file", ""])
    if kind == "file":
        tree["manifest.jsonl"] = ["file", edit(text[0])]


def _line_mutated(chance: Random, text: str) -> str:
    """Return a manifest one value of which is another."""
    lines = text.splitlines() or ["{}"]
    n = chance.randrange(len(lines))
    try:
        entry = json.loads(lines[n])
        place = entry["finished"][0] if chance.random() < 0.4 else entry
        key = chance.choice(list(place))
    except (ValueError, LookupError, TypeError, RecursionError):
        return text
    place[key] = chance.choice(chance.choice([_RESULTS, _STAGED, _VALUES]))
    lines[n] = json.dumps(entry)
    return "\n".join(lines) + "\n"


def _begin_batches(sandbox: Sandbox) -> None:
    import torch

    from daw_bridge import batch_work
    from tests.daw_bridge.click_transcriber import ClickTranscriber
    from tests.daw_bridge.kill_often import command
    from transform.engine import Redrummer

    torch.set_num_threads(1)
    redrummer = Redrummer(ClickTranscriber())
    batch_work._models = lambda *_: redrummer
    make_clip(sandbox.outside)
    assert command(*_BATCH)() == 0
    for name, path in (("manifest", "manifest.jsonl"), ("take", "song_beat.wav")):
        _MADE[name] = (sandbox.inside / "out" / path).read_bytes()


def make_clip(folder: Path) -> None:
    """Put a recording and a rhythm, of two clicks each, into a folder."""
    import soundfile

    from tests.conftest import make_clicks
    from transform.events import DrumEvent, Rhythm
    from transform.midi import write_midi

    (folder / "music").mkdir()
    soundfile.write(
        folder / "music" / "song.wav", make_clicks([0.02, 0.1], length_s=0.2).T, 44_100, subtype="PCM_16"
    )
    rhythm = Rhythm((DrumEvent(0.0, "KD", 0.8), DrumEvent(0.1, "KD", 0.4)), 0.2)
    (folder / "beat.mid").write_bytes(write_midi(rhythm))


def _read_folder(data: bytes, sandbox: Sandbox) -> str:
    from tests.daw_bridge.kill_often import command

    about = json.loads(data)
    sandbox.empty()
    _plant(about["tree"], sandbox)
    code = command(*_BATCH, *about["options"])()
    assert code in (0, 1, 2, 3), f"exit code {code}"
    kinds = [about["tree"].get(name, ["none"])[0] for name in ("manifest.jsonl", ".redrum-batch")]
    return f"exit code {code}, {kinds}, {about['options']}"


def _plant(tree: Tree, sandbox: Sandbox) -> None:
    """Make what a folder of results holds, as far as it can be made: some of it lies in the way of other."""
    for name, (kind, *content) in tree.items():
        path = sandbox.inside / "out" / name if name else sandbox.inside / "out"
        text = content[0].replace("{outside}", str(sandbox.outside)) if content else ""
        text = text.replace("{manifest}", _MADE["manifest"].decode())
        if not Path(os.path.realpath(path.parent)).is_relative_to(sandbox.inside):
            continue  # below a link that was planted before
        with suppress(OSError, ValueError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link" and name:  # the folder that is named may be a link: that is its user's choice
                path.symlink_to(text)
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind in ("dir", "locked"):
                path.mkdir(mode=0o700 if kind == "dir" else 0o500)
            elif kind == "take":
                path.write_bytes(_MADE["take"])
            elif not path.is_symlink():
                path.write_bytes(text.encode("utf-8", "surrogatepass"))


FOLDER = Format(name="manifest", seeds=_folders, mutate=_mutate_folder, read=_read_folder, begin=_begin_batches)
