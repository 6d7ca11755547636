"""Preset archives as a format: names, modes and sizes of files in them, descriptions, and weights."""

import hashlib
import io
import json
import math
import re
import shutil
import stat
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from random import Random

from tests.mutate.faults import BINARY, BRACKETS, MOST_BYTES, edge, harm, mutated
from tests.mutate.formats import Format, magnitude
from tests.mutate.sandbox import Sandbox

File = tuple[zipfile.ZipInfo, bytes]


@cache
def _tiny_preset() -> dict[str, bytes]:
    from safetensors.torch import save

    from tests.transform.test_faults import TOML
    from transform.transcriber import TranscriberConfig, TranscriberNet
    from transform.weights import config_to_json

    config = TranscriberConfig(widths=(2, 2, 2, 2), d_model=4, dilations=(1,))
    about = {"model": "transcriber", "config": config_to_json(config)}
    weights = save(TranscriberNet(config).half().state_dict(), about)
    toml = TOML.format(sha256=hashlib.sha256(weights).hexdigest())
    return {"preset.toml": toml.encode(), "CARD.md": b"# tiny\n", "net.safetensors": weights}


def _archives() -> list[bytes]:
    return [_zipped([(zipfile.ZipInfo(name), data) for name, data in _tiny_preset().items()])]


def _zipped(entries: Sequence[File], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of one name
        for about, data in entries:
            about.compress_type = compression
            archive.writestr(about, data)
    return target.getvalue()


def _entries(data: bytes) -> list[File]:
    """Return the files of an archive, those of a whole one if it cannot be unpacked."""
    found = []
    with suppress(Exception), zipfile.ZipFile(io.BytesIO(data)) as archive:
        for about in archive.infolist()[:50]:
            with archive.open(about) as file:
                entry = zipfile.ZipInfo(about.filename)
                entry.external_attr = about.external_attr
                found.append((entry, file.read(MOST_BYTES)))
        return found
    return [(zipfile.ZipInfo(name), data) for name, data in _tiny_preset().items()]


_NAMES = (
    *(
        "../evil.safetensors",
        "/evil.safetensors",
        "..\\evil.safetensors",
        "C:evil.safetensors",
        "sub/a.safetensors",
    ),
    *("a.safetensors", "Preset.toml", "preset.toml", "con.safetensors", "é.dat", ".", ".."),
    "a" * 300 + ".safetensors",
    "",
)
_MODES = (
    *(stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o666, stat.S_IFDIR | 0o755, stat.S_IFCHR | 0o666),
    *(0o000, 0o7777),
)
_HALVES = (b"\x00\x7c", b"\x00\xfe", b"\xff\x7b", b"\x01\x00")  # infinite, NaN, the largest, the least number
_SETTINGS = (
    *(0, -1, 1, 2, 3, 7, 64, 10**4, 10**6, 10**9, 2**63, 10**400, 0.5, 1e-30, 1e30, math.nan, math.inf),
    *(None, "", "a", True, [], {}, [1], [2] * 1000, [[]], {"a": 1}),
)


def _mutate_archive(chance: Random, data: bytes, other: bytes) -> bytes:
    if chance.random() < 0.1:
        return harm(chance, data)
    entries = _entries(data)
    for _ in range(chance.choice([1, 1, 2, 3])):
        if not entries:
            break
        n = chance.randrange(len(entries))
        about, body = entries[n]
        match chance.choice(["body", "body", "body", "name", "mode", "many", "gone", "empty space"]):
            case "body":
                entries[n] = (about, _entry_mutated(chance, about.filename, body))
            case "name":
                entries[n] = (zipfile.ZipInfo(chance.choice(_NAMES)), body)
            case "mode":
                about.external_attr = chance.choice(_MODES) << 16
            case "many":
                times = chance.choice([1, 1, 20, 2000]) if len(body) < 5000 and len(entries) < 50 else 1
                names = (chance.choice([f"w{i}.safetensors", about.filename]) for i in range(times))
                entries += [(zipfile.ZipInfo(name), body) for name in names]
            case "gone":
                del entries[n]
            case _ if chance.random() < 0.1:
                filling = chance.choice([b"\0", b"#", b" ", b"\n"]) * chance.choice([2**20, 2**24])
                entries[n] = (about, body[:200] + filling)
    if chance.random() < 0.8:
        entries = _with_checksums(entries)
    ways = [zipfile.ZIP_DEFLATED] * 8 + [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    is_large = sum(len(body) for _, body in entries) > 2**20 or len(entries) > 50
    data = _zipped(entries, ways[0] if is_large else chance.choice(ways))
    return edge(chance, data) if chance.random() < 0.1 else data


def _entry_mutated(chance: Random, name: str, body: bytes) -> bytes:
    if not name.endswith(".safetensors"):
        return mutated(chance, body, _tiny_preset()["preset.toml"], BRACKETS)
    size = int.from_bytes(body[:8], "little")
    header, numbers = body[8 : 8 + size], body[8 + size :]
    match chance.choice(["configuration", "configuration", "header", "numbers", "all"]):
        case "configuration":
            header = _configuration_mutated(chance, header)
        case "header":
            header = mutated(chance, header, header, BRACKETS)
        case "numbers":
            value = chance.choice(_HALVES)
            at = 2 * chance.randrange(len(numbers) // 2 or 1)
            numbers = numbers[:at] + value * chance.choice([1, 1, len(numbers) // 2]) + numbers[at + 2 :]
            numbers = numbers[: len(body) - 8 - size]
        case _:
            return mutated(chance, body, body, BINARY)
    return len(header).to_bytes(8, "little") + header + numbers


def _configuration_mutated(chance: Random, header: bytes) -> bytes:
    """Return the header of weights with another value somewhere in their network's configuration."""
    try:
        about = json.loads(header)
        config = json.loads(about["__metadata__"]["config"])
        place, key = config, chance.choice(list(config))
        while isinstance(place[key], dict | list) and place[key] and chance.random() < 0.9:
            place = place[key]
            key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    except (ValueError, LookupError, TypeError):
        return harm(chance, header or b"?", is_text=True)
    is_list = isinstance(place[key], list)
    place[key] = place[key] * 10 ** chance.randint(0, 4) if is_list else chance.choice(_SETTINGS)
    about["__metadata__"]["config"] = json.dumps(config)
    return json.dumps(about).encode()


def _with_checksums(entries: Sequence[File]) -> list[File]:
    """Return files of a preset whose description has the right checksum of the weights."""
    weights = [data for about, data in entries if about.filename == "net.safetensors"]
    right = b'sha256 = "%s"' % hashlib.sha256(weights[0] if weights else b"").hexdigest().encode()
    return [
        (about, re.sub(rb'sha256 = "\w*"', right, data) if about.filename == "preset.toml" else data)
        for about, data in entries
    ]


def _read_archive(data: bytes, sandbox: Sandbox) -> str:
    import numpy as np

    from transform.audio import Recording
    from transform.engine import Redrummer
    from transform.errors import RedrumError
    from transform.preset_archive import import_preset

    shutil.rmtree(sandbox.inside / "data", ignore_errors=True)
    archive = sandbox.inside / "tiny.redrum"
    archive.write_bytes(data)
    try:
        preset = import_preset(archive)
    except RedrumError:
        left = [path.name for path in (sandbox.inside / "data").rglob("*") if path.name != "presets"]
        assert not left, f"what is refused leaves {left}"
        raise
    assert preset.folder.parent == sandbox.inside / "data" / "presets"
    redrummer = Redrummer.load(preset.folder, device="cpu")
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 22_050)).astype(np.float32)
    events = redrummer.transcribe(Recording.from_samples(sound, 44_100))
    return f"{len(preset.models)} models, {magnitude(len(events))} events"


ARCHIVE = Format(name="archive", seeds=_archives, mutate=_mutate_archive, read=_read_archive)
