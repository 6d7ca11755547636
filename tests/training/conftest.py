"""Kits, grooves and data folders made for the tests of training."""

import csv
import types
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch

from training.card import describe_model
from training.data.kits import Kit, OneShot, ProceduralPool
from training.data.pack import Pack
from training.data.rhythms import Groove
from training.data.synthesis import SynthesisSettings
from training.train import loop
from training.train.loop import write_weights
from training.train.reports import draw_curves
from training.train.transcriber import TranscriberTraining
from transform.codec import CodecNet
from transform.codec_config import CodecConfig
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.midi import write_midi
from transform.presets import load_preset
from transform.rhythm_transformer import RhythmNet, config_for
from transform.transcriber import TranscriberConfig, TranscriberNet
from transform.weights import config_to_json, fingerprint

VOICES = [("KD", ""), ("SD", ""), ("TT", "low"), ("HH", "closed"), ("HH", "open"), ("CY", "crash")]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # Two threads that wait for each other on a busy machine are many times slower than one; and sums are
    # only the same to the bit with the same number of threads.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class StockedPool(ProceduralPool):
    """A stock of procedural drums that begins with what another run of the same seed began with."""

    made: ClassVar[dict[tuple[int, int], dict[tuple[str, str], list[OneShot]]]] = {}

    def fill(self):
        key = self.generator.initial_seed(), self.size
        if key not in self.made:
            super().fill()
            self.made[key] = self.hits
        self.hits = {name: list(stock) for name, stock in self.made[key].items()}


@pytest.fixture(autouse=True)
def _quick_runs(monkeypatch):
    """Runs make their first stock once a seed, and draw no curves: both take longer than a few steps."""
    monkeypatch.setattr(loop, "ProceduralPool", StockedPool)
    monkeypatch.setattr(loop, "draw_curves", lambda log, picture: False)


@pytest.fixture
def with_curves(_quick_runs, monkeypatch):
    """Let runs draw their curves, as they do in use."""
    monkeypatch.setattr(loop, "draw_curves", draw_curves)


def make_hit(drum_class, seed=0, length_s=0.15):
    """Return a drum-like hit (T,): attack at sample 0, peak 0.9; each class in its own band."""
    rng = np.random.default_rng((seed, CLASSES.index(drum_class)))
    time_s = np.arange(round(length_s * 44_100)) / 44_100
    hz, noise, tau_s = {
        "KD": (60, 0.02, 0.04),
        "SD": (200, 0.5, 0.03),
        "TT": (120, 0.05, 0.05),
        "HH": (6000, 0.8, 0.02),
        "CY": (3000, 0.9, 0.06),
    }[drum_class]
    tone = np.cos(2 * np.pi * hz * rng.uniform(0.9, 1.1) * time_s)
    sound = ((1 - noise) * tone + noise * rng.uniform(-1, 1, len(time_s))) * np.exp(-time_s / tau_s)
    sound[0] = 1.2 * np.abs(sound).max()
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32)


def make_kit(name, split, kind="acoustic", seed=0, voices=VOICES):
    shots = tuple(
        OneShot(c, a, 0.0, torch.from_numpy(make_hit(c, seed + i))) for i, (c, a) in enumerate(voices)
    )
    return Kit(name, kind, split, shots)


def make_groove(name="rock", split="train", bpm=120.0, n_beats=8.0):
    """Return a rock beat with kick, snare, hats, a crash and a tom."""
    rows = []
    for beat in np.arange(0, n_beats, 0.5):
        rows.append((float(beat), "HH", "closed", 0.6))
    for beat in np.arange(0, n_beats, 2.0):
        rows += [(float(beat), "KD", "", 0.9), (float(beat) + 1, "SD", "", 0.8)]
    rows += [(0.0, "CY", "crash", 0.7), (n_beats - 0.75, "TT", "low", 0.7)]
    rows.sort()
    onsets, classes, articulations, velocities = zip(*rows, strict=True)
    return Groove(
        name=name,
        style="rock",
        split=split,
        bpm=bpm,
        n_beats=n_beats,
        onset_beats=np.array(onsets),
        class_index=np.array([CLASSES.index(c) for c in classes]),
        articulation=articulations,
        velocity=np.array(velocities),
    )


@pytest.fixture(scope="session")
def tiny_pack():
    kits = (
        make_kit("made-a", "train"),
        make_kit("made-b", "train", kind="electronic", seed=10),
        make_kit("made-c", "validate", seed=20),
        make_kit("made-d", "validate", kind="electronic", seed=30),
    )
    grooves = (make_groove(), make_groove("rock-2", bpm=100.0), make_groove("held-out", "validate", bpm=110.0))
    return Pack(kits, grooves, ())


@pytest.fixture(scope="session")
def bench_pack():
    """Return a pack with a test side: kits of two families that share recordings, some that do not, loops."""
    kits = (
        make_kit("trained-on", "train"),
        make_kit("avl-one", "test", seed=10),
        make_kit("h2-black-pearl", "test", seed=20),
        make_kit("dsyn-a", "test", kind="electronic", seed=30),
        make_kit("dsyn-b", "test", kind="electronic", seed=40),
        make_kit("dsyn-bare", "test", kind="electronic", seed=50, voices=[("KD", ""), ("CY", "ride")]),
    )
    grooves = tuple(make_groove(f"held-out-{i}", "test", bpm=90.0 + 15 * i) for i in range(3))
    beat = np.concatenate([np.pad(make_hit(c), (0, 15_000)) for c in ("KD", "HH", "SD", "HH")])
    return Pack(kits, grooves, (("real", "test", torch.from_numpy(np.tile(beat, 4))),))


@pytest.fixture(scope="session")
def small_training():
    """Return a function that makes the settings of a training run that takes seconds."""

    def make(**changes):
        settings = {
            "steps": 12,
            "batch": 2,
            "warm_up": 5,
            "validate_every": 1000,
            "n_validation": 2,
            "pool_size": 1,
            "synthesis": SynthesisSettings(n_samples=22_050),
            "model": TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1, 2, 4)),
        }
        return TranscriberTraining(**(settings | changes))

    return make


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that lets a step take a minute of a made clock, so that runs stop when a test wants."""
    clock = types.SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: clock.now_s))
    step = loop.Run.train_step

    def train_step(self, batch):
        clock.now_s += 60
        return step(self, batch)

    monkeypatch.setattr(loop.Run, "train_step", train_step)
    return lambda n_steps: {"max_minutes": n_steps - 0.5}


def _write_manifest(folder, rows):
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def data_folder(tmp_path):
    """Return a small data folder: two kits, a double, two rhythms, one without drums, a loop."""
    data = tmp_path / "data"
    rows = []
    for kit, tier in (("made-1", "A"), ("timgm-1", "B")):
        (data / "kits" / kit).mkdir(parents=True)
        for i, (drum_class, articulation) in enumerate([*VOICES, ("KD", "")]):
            path = f"kits/{kit}/{drum_class}_{articulation}_{i}.flac"
            sound = np.concatenate((np.zeros(50, dtype=np.float32), make_hit(drum_class, i)))
            soundfile.write(data / path, sound, 44_100, subtype="PCM_16")
            row = {"path": path, "kit": kit, "kind": "acoustic", "class": drum_class}
            row |= {
                "articulation": articulation or "hit",
                "kit_level_db": -i,
                "tier": tier,
                "licence": "CC0-1.0",
            }
            rows.append(row | {"duplicate_of": rows[0]["path"] if i == len(VOICES) else ""})
    _write_manifest(data / "kits", rows)

    (data / "rhythms").mkdir()
    events = tuple(
        DrumEvent(i * 0.25, c, 0.25 + i / 16, "closed" if c == "HH" else "")
        for i, c in enumerate(("KD", "HH", "SD", "HH", "KD", "HH", "TT", "CY"))
    )
    rhythm = write_midi(Rhythm(events, 4.0, TempoMap.constant(120)))
    rows = []
    for name, performer in (("one", "drummer1"), ("two", "drummer2"), ("bongos", "drummer1")):
        (data / "rhythms" / f"{name}.mid").write_bytes(_bongos() if name == "bongos" else rhythm)
        row = {"path": f"rhythms/{name}.mid", "style": "rock/slow", "performer": performer}
        rows.append(row | {"tier": "A", "licence": "CC0-1.0"})
    _write_manifest(data / "rhythms", rows)

    (data / "loops").mkdir()
    soundfile.write(data / "loops" / "track_01.flac", np.tile(make_hit("SD"), 4), 44_100)
    _write_manifest(data / "loops", [{"path": "loops/track_01.flac", "tier": "A", "licence": "CC0-1.0"}])
    return data


def _bongos() -> bytes:
    """Return a MIDI file that plays nothing but a bongo (note 60 on channel 10)."""
    track = b"".join(b"\x00\x99\x3c\x50\x60\x89\x3c\x00" for _ in range(8)) + b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4) + (0).to_bytes(2) + (1).to_bytes(2) + (480).to_bytes(2)
    return header + b"MTrk" + len(track).to_bytes(4) + track


@pytest.fixture
def hit():
    return make_hit


@pytest.fixture
def kit():
    return make_kit


@pytest.fixture
def groove():
    return make_groove


@pytest.fixture
def root() -> Path:
    return Path(__file__).resolve().parents[2]


_SMALL_CODEC = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 1),
    generator_widths=(12, 8),
    generator_blocks=(1, 1),
)
_SMALL_EARS = TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1, 2, 4))


def make_untrained_preset(folder, *, codec=_SMALL_CODEC, with_rhythm=False):
    """Write a preset whose networks have learnt nothing, and return it."""
    torch.manual_seed(0)
    codec = CodecNet(codec)
    nets = {
        "transcriber": TranscriberNet(_SMALL_EARS),
        "codec-encoder": codec.encoder,
        "codec-generator": codec.generator,
    }
    if with_rhythm:
        nets["rhythm"] = RhythmNet(
            replace(config_for(codec.config, fingerprint(codec.encoder)), width=8, n_heads=2)
        )
    for model, net in nets.items():
        path = folder / f"{model}.safetensors"
        state = {"average": net.state_dict(), "config": config_to_json(net.config), "step": 0}
        write_weights(state, model, path)
        describe_model(folder, model, weights=path, parameters=1, command="nothing")
    return load_preset(folder)


@pytest.fixture(scope="session")
def write_untrained():
    """Return a function that writes a preset whose networks have learnt nothing into a folder."""
    return make_untrained_preset
