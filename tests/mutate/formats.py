"""What a format is to the mutator, and those that are one file: sounds, MIDI, projects, sets and job sheets."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from random import Random

from tests.mutate.faults import BINARY, BRACKETS, MOST_BYTES, RPP, XML, Grammar, edge, harm, mutated
from tests.mutate.sandbox import Sandbox

Chunk = tuple[bytes, bytes]  # name, contents


@dataclass(frozen=True, kw_only=True)
class Format:
    """What is mutated, and what reads it."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, bytes, bytes], bytes]
    # Reads an input; returns, in a word or two, what kind of thing it turned out to be.
    read: Callable[[bytes, Sandbox], str]
    begin: Callable[[Sandbox], None] = lambda sandbox: None  # once in each process, before it reads
    # An input as what a smaller one is looked for in, and back.
    opened: Callable[[bytes], bytes] = bytes
    closed: Callable[[bytes], bytes] = bytes


def magnitude(number: float) -> str:
    """Return a number's order of magnitude: inputs that differ in it are different inputs."""
    return str(round(math.log2(max(number, 1e-3)))) if math.isfinite(number) else str(number)


# --- sounds ---

# Magic bytes -> bytes before the first chunk, form of its header, padding, whether sizes count the header.
_LAYOUTS = {
    b"RIFF": (12, "<4sI", 2, False),
    b"RF64": (12, "<4sI", 2, False),
    b"FORM": (12, ">4sI", 2, False),
    b"caff": (8, ">4sq", 1, False),
    b"riff": (40, "<16sQ", 8, True),
    b"MThd": (0, ">4sI", 1, False),
}
_ENDINGS = {b"RIFF": ".wav", b"RF64": ".rf64", b"FORM": ".aiff", b"caff": ".caf", b"riff": ".w64"}
_ENDINGS |= {b".snd": ".au", b"fLaC": ".flac", b"OggS": ".ogg"}


def chunks_of(data: bytes) -> tuple[bytes, list[Chunk]]:
    """Return what is before the first chunk of a file, and its chunks, the last of which may be cut off."""
    first, form, padding, counts_header = _LAYOUTS[data[:4]]
    chunks, at = [], first
    while len(data) - at >= struct.calcsize(form) and len(chunks) < 70_000:
        name, size = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        size = max(0, size - struct.calcsize(form) * counts_header)
        chunks.append((name, data[at : at + size]))
        at += size + -size % padding
    return data[:first], chunks


def with_chunks(head: bytes, chunks: Sequence[Chunk]) -> bytes:
    """Return a file of chunks, each with the size that it has."""
    _, form, padding, counts_header = _LAYOUTS[head[:4] or b"MThd"]
    parts = []
    for name, body in chunks:
        parts.append(struct.pack(form, name, len(body) + struct.calcsize(form) * counts_header))
        parts += [body, bytes(-len(body) % padding)]
    body = b"".join(parts)
    if head[:4] in (b"RIFF", b"FORM"):
        n_bytes = min(len(body) + 4, 2**32 - 1)
        head = head[:4] + n_bytes.to_bytes(4, "little" if head[:1] == b"R" else "big") + head[8:]
    return head + body


def _chunks_mutated(chance: Random, data: bytes, other: bytes, inner: Grammar = BINARY) -> bytes:
    """Return a file whose chunks are changed, moved, missing or many; sizes are right, but for a last fault."""
    if data[:4] not in _LAYOUTS or chance.random() < 0.25:
        return mutated(chance, data, other, BINARY)
    head, chunks = chunks_of(data)
    for _ in range(chance.choice([1, 1, 2, 3])):
        if not chunks:
            break
        n = chance.randrange(len(chunks))
        match chance.choice(["body", "body", "body", "many", "new", "gone", "swap"]):
            case "body":
                chunks[n] = (chunks[n][0], mutated(chance, chunks[n][1], other, inner))
            case "many":
                most = max(2, MOST_BYTES // (len(chunks[n][1]) + 8))
                chunks[n : n + 1] = [chunks[n]] * min(round(10 ** chance.uniform(0.3, 4.9)), most)
            case "new":
                name = chance.choice(
                    [b"LIST", b"acid", b"smpl", b"fact", b"PEAK", b"JUNK", b"\0\0\0\0", b"data"]
                )
                body = chance.randbytes(chance.choice([0, 1, 4, 24, 60]))
                chunks.insert(n, (name.ljust(len(chunks[n][0]), b"\0"), body))
            case "gone":
                del chunks[n]
            case _:
                chunks.append(chunks.pop(n))
    data = with_chunks(head, chunks)
    return edge(chance, data) if chance.random() < 0.3 else data


@cache
def sounds() -> list[bytes]:
    from tests.transform.test_faults import SOUNDS, sound_bytes

    with_acid = with_chunks(*_with_acid(chunks_of(sound_bytes(".wav", "PCM_16"))))
    return [*(sound_bytes(*about) for about in SOUNDS.values()), with_acid, sound_bytes(".wav", "PCM_U8")]


def _with_acid(file: tuple[bytes, list[Chunk]]) -> tuple[bytes, list[Chunk]]:
    return file[0], [*file[1], (b"acid", struct.pack("<I16xf", 0, 120.0))]


def _read_sound(data: bytes, sandbox: Sandbox) -> str:
    import numpy as np

    from transform.audio import Recording

    path = sandbox.inside / f"loop{_ENDINGS.get(data[:4], '.mp3')}"
    path.write_bytes(data)
    with Recording.open(path) as recording:
        assert recording.n_samples > 0
        tempo = recording.tempo_bpm()
        stop = min(recording.n_samples, 2**18)
        assert np.isfinite(recording.read(0, stop)).all()
        recording.read(max(0, recording.n_samples - 100), recording.n_samples)
        assert all(np.isfinite(block).all() for block in islice(recording.mono_blocks(), 20))
        facts = (
            recording.format.subtype,
            magnitude(recording.n_samples),
            magnitude(recording.sample_rate),
            bool(tempo),
        )
        return f"{facts}, {magnitude(recording.n_channels)} channels"


# --- MIDI ---


def _midi_events(data: bytes) -> list[tuple[int, int]]:
    """Return the events of a track, each with its delta time."""
    spans, at, running = [], 0, 0
    while at < len(data) and len(spans) < 20_000:
        start = at
        while at < len(data) and data[at] & 128:
            at += 1
        at += 1
        kind = data[at] if at < len(data) else 0
        if kind < 128:
            kind, at = running, at - 1
        if kind in (0xFF, 0xF0, 0xF7):
            at += 1 + (kind == 0xFF)
            size = 0
            while at < len(data):
                size, at = size << 7 | data[at] & 127, at + 1
                if not data[at - 1] & 128:
                    break
            at += size
        else:
            running = kind
            at += 2 if kind >> 4 in (0xC, 0xD) else 3
        spans.append((start, min(at, len(data))))
    return spans


def _vlq(number: int) -> bytes:
    out = [number & 127]
    while number := number >> 7:
        out.append(number & 127 | 128)
    return bytes(reversed(out))


@cache
def midis() -> list[bytes]:
    from tests.transform.test_faults import beat
    from transform.events import DrumEvent, Rhythm, TempoMap
    from transform.midi import write_midi

    drums = tuple(DrumEvent(0.1 * n, "HH" if n % 2 else "KD", 0.5) for n in range(40))
    changes = TempoMap(((0.0, 120.0), (2.0, 90.0), (3.0, 180.0)))
    return [
        beat(),
        write_midi(Rhythm(drums, 4.0, changes, "many tempi", 3.5)),
        write_midi(Rhythm(drums, 4.0, None, "no tempo")),
    ]


def _mutate_midi(chance: Random, data: bytes, other: bytes) -> bytes:
    if chance.random() < 0.3:  # a message at the beginning of a track
        meta = b"\xff" + bytes(
            [chance.choice([1, 3, 0x20, 0x2F, 0x51, 0x54, 0x58, 0x59, 0x7F, chance.randrange(256)])]
        )
        body = chance.randbytes(chance.choice([0, 1, 2, 3, 4, 5, 7]))
        size = _vlq(chance.choice([len(body)] * 4 + [2**28 - 1, 2**7, 2**40]))
        delta = chance.choice(
            [b"\0", b"\0", _vlq(2**28 - 1), b"\xff" * chance.choice([8, 1000, 10**5]) + b"\x7f"]
        )
        head, chunks = chunks_of(data) if data[:4] == b"MThd" else (b"", [])
        n = chance.randrange(len(chunks) or 1)
        chunks[n : n + 1] = [
            (b"MTrk", delta + meta + size + body + b"".join(body for _, body in chunks[n : n + 1]))
        ]
        data = with_chunks(head, chunks)
        if chance.random() < 0.5:
            return data
    return _chunks_mutated(chance, data, other, Grammar(_midi_events, is_text=False))


def _read_midi(data: bytes, sandbox: Sandbox) -> str:
    from transform.midi import read_midi

    path = sandbox.inside / "beat.mid"
    path.write_bytes(data)
    rhythm = read_midi(path)
    assert rhythm.events
    assert rhythm.events[-1].onset_s < rhythm.length_s
    rhythm.section(0.3, 100.0)  # it can be played: looped, at another tempo, on the grid
    changes = len(rhythm.tempo_map.changes) if rhythm.tempo_map else 0
    if changes:
        rhythm.at_tempo(100.0), rhythm.snapped(0.0)
    return f"{magnitude(len(rhythm.events))} events, {magnitude(changes)} tempi, {magnitude(rhythm.length_s)} s"


# --- projects and sets ---


def _projects() -> list[bytes]:
    from tests.daw_bridge.test_faults import PROJECT

    take = b'    TAKE\n    NAME "other"\n    <SOURCE FLAC\n      FILE "/a/b.flac"\n    >\n    SM 0 0 + 1 0.9\n'
    # Items and tempi as of a song of hours: what is made of many of them is all looked at.
    item = b"    <ITEM\n      POSITION %d\n      LENGTH 1\n      <SOURCE MIDI\n        HASDATA 1 960 QN\n"
    item += b"        E 0 90 24 60\n        E 960 b0 7b 00\n      >\n    >\n"
    points = b"  <TEMPOENVEX\n    PT 0 120 1\n    PT 1 121 1\n    PT 2 122 0\n  >\n"
    long = b"<REAPER_PROJECT 0.1\n  TEMPO 120 4 4\n%s  <TRACK\n    NAME drums\n%s  >\n>\n"
    return [
        *(PROJECT, PROJECT.replace(b"  <TRACK\n", take + b"  <TRACK\n", 1), PROJECT.replace(b"\n", b"\r\n")),
        long % (points, b"".join(item % n for n in (0, 1, 2, 90_000))),
    ]


def _put_loop(sandbox: Sandbox) -> None:
    """Put the recording that projects and sets name beside them."""
    (sandbox.inside / "sounds").mkdir()
    for name in ("loop.wav", "sounds/loop.wav"):
        (sandbox.inside / name).write_bytes(sounds()[0])


def _read_project(data: bytes, sandbox: Sandbox) -> str:
    from daw_bridge.reaper.rpp import open_project

    path = sandbox.inside / "song.rpp"
    path.write_bytes(data)
    job = _checked_job(open_project(path, overwrite=True).collect())
    assert path.read_bytes() == data
    return job


def _checked_job(job) -> str:
    """Return what is in a job, whose items can be worked on."""
    from daw_bridge.pairs import pair_items
    from transform.errors import RedrumError

    for item in job.items:
        assert all(map(math.isfinite, (item.position_s, item.length_s, item.start_offset_s, item.play_rate)))
        for note in item.notes:
            assert item.position_s - 1e-3 <= note.onset_s <= item.end_s + 1e-3
            assert 1 <= note.velocity <= 127
    for has_rhythm in (True, False):
        with suppress(RedrumError):
            pair_items(job, has_rhythm=has_rhythm)
    kinds = sorted({(item.kind, item.state) for item in job.items})
    n_notes = sum(len(item.notes) for item in job.items)
    n_items, n_notes, n_tempi = (magnitude(n) for n in (len(job.items), n_notes, len(job.tempo)))
    return f"{kinds}, {n_items} items, {n_notes} notes, {n_tempi} tempi"


def _sets() -> list[bytes]:
    from tests.daw_bridge.live.test_als import audio, midi, track, warped
    from tests.daw_bridge.live_worlds import als_xml

    tracks = [
        track("Drums", audio("loop.wav", 4.0, 6.0, start_marker=0.25), warped("loop.wav", 8.0, 12.0, 4.0, 2.0)),
        track("Rhythm", midi([(0.0, 36, False), (1.5, 38, False)], 4.0, 12.0, looping=True), pads={36: "Kick"}),
        track("Session", warped("loop.wav", 0.0, 8.0, 4.0, 2.0, looping=True, slot=1), is_frozen=True),
    ]
    tempo = ((0.0, 120.0), (4.0, 90.0), (9.0, 140.0))
    glide = [(-63_072_000, 120.0), (2.0, 120.0), (6.0, 90.0)]
    texts = [als_xml(tracks, tempo, major=major) for major in (10, 11, 12)]
    texts.append(als_xml(tracks[2:], ((0.0, 100.0),), events=glide, metre=303))
    markers = [(0.01 * (n % 7) + 0.5 * n, n) for n in range(5)]  # of a clip that lasts as long as markers can
    long = warped("loop.wav", 0.0, 50_000.0, 50_000.0, 25_000.0, warp_markers=markers)
    texts.append(als_xml([track("Long", long), track("Notes", midi([(0.5, 36, False)], 0.0, 50_000.0))]))
    return [gzip.compress(text.encode(), 1) for text in texts]


def _unpacked(data: bytes) -> bytes:
    with suppress(OSError, EOFError, zlib.error):
        return gzip.GzipFile(fileobj=io.BytesIO(data)).read(8 * MOST_BYTES)
    return data


def _mutate_set(chance: Random, data: bytes, other: bytes) -> bytes:
    if chance.random() < 0.1:
        return harm(chance, data)
    return gzip.compress(mutated(chance, _unpacked(data), _unpacked(other), XML), 1)


def _read_set(data: bytes, sandbox: Sandbox) -> str:
    from daw_bridge.live.als import open_set

    path = sandbox.inside / "song.als"
    path.write_bytes(data)
    return _checked_job(open_set(path, overwrite=True).collect())


# --- job sheets ---


def _sheets() -> list[bytes]:
    from tests.daw_bridge.test_faults import CSV, TOML

    return [CSV, TOML, b'job = [{source = "a.wav", rhythm = "beat.mid", "seed" = 1}]\n']


def _read_sheet(data: bytes, sandbox: Sandbox) -> str:
    from daw_bridge.plan import PlanSettings, plan

    (sandbox.inside / "a.wav").write_bytes(sounds()[0])
    (sandbox.inside / "beat.mid").write_bytes(midis()[0])
    sheet = sandbox.inside / ("jobs.csv" if data[:6] == b"source" else "jobs.toml")
    sheet.write_bytes(data)
    planned = plan([], sheet.name, PlanSettings(out=Path("out"), name="{stem}_{seed}"))
    assert planned
    assert all(item.source.is_file() and item.rhythm.path.is_file() for item in planned)
    assert len({item.output for item in planned}) == len(planned)
    return f"{sheet.name}, {magnitude(len(planned))} items"


FILES = (
    Format(name="wav", seeds=sounds, mutate=_chunks_mutated, read=_read_sound),
    Format(name="midi", seeds=midis, mutate=_mutate_midi, read=_read_midi),
    Format(
        name="rpp",
        seeds=_projects,
        mutate=partial(mutated, grammar=RPP),
        read=_read_project,
        begin=_put_loop,
    ),
    Format(
        name="als",
        seeds=_sets,
        mutate=_mutate_set,
        read=_read_set,
        begin=_put_loop,
        opened=_unpacked,
        closed=partial(gzip.compress, compresslevel=1),
    ),
    Format(name="sheet", seeds=_sheets, mutate=partial(mutated, grammar=BRACKETS), read=_read_sheet),
)
