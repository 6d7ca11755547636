"""Files that are not what they should be: every reader reads what is there, or says what is wrong with it."""

import contextlib
import hashlib
import io
import itertools
import json
import math
import shutil
import struct
from functools import partial

import mido
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from transform.audio import AudioFormat, Recording
from transform.bank import Bank
from transform.errors import AudioError, CheckpointError, RhythmError
from transform.hits import Hit
from transform.midi import parse_midi, read_midi
from transform.one_shots import check_kit_folder, load_kit, save_kit
from transform.preset_archive import export_preset, import_preset
from transform.presets import load_preset
from transform.transcriber import TranscriberConfig, TranscriberNet
from transform.weights import config_to_json, load_net

RATE = 44_100
SOUNDS = {  # ending, subtype
    "WAV, 16 bits": (".wav", "PCM_16"),
    "WAV, float": (".wav", "FLOAT"),
    "RF64": (".rf64", "PCM_24"),
    "Wave64": (".w64", "PCM_16"),
    "CAF": (".caf", "PCM_16"),
    "AIFF": (".aiff", "PCM_24"),
    "AU": (".au", "PCM_16"),
    "FLAC": (".flac", "PCM_16"),
    "OGG": (".ogg", "VORBIS"),
    "MP3": (".mp3", "MPEG_LAYER_III"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults ü")


def sound_bytes(ending, subtype):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1500, 2))
    container = {".rf64": "RF64", ".w64": "W64", ".caf": "CAF"}.get(ending, ending[1:].upper())
    target = io.BytesIO()
    soundfile.write(target, noise, RATE, format=container, subtype=subtype)
    return target.getvalue()


@pytest.mark.parametrize("kind", SOUNDS)
@given(data=st.data())
def test_a_faulty_sound_file(folder, fault, survives, kind, data):
    ending, subtype = SOUNDS[kind]
    path = folder / f"loop{ending}"
    path.write_bytes(data.draw(fault(sound_bytes(ending, subtype))))

    def read():
        with Recording.open(path) as recording:
            assert recording.n_samples > 0
            recording.tempo_bpm()
            n_read = min(recording.n_samples, 5000)
            assert np.isfinite(recording.read(0, n_read)).all()
            blocks = itertools.islice(recording.mono_blocks(block_s=0.01), 10)
            assert all(np.isfinite(block).all() for block in blocks)
            return n_read

    survives(kind, read)


def test_a_size_beyond_all_files_is_no_crash(folder):
    whole = bytearray(sound_bytes(".w64", "PCM_16"))
    whole[40 + 16 + 7] = 0x7F  # the first chunk would end beyond 2**62
    path = folder / "large.w64"
    path.write_bytes(bytes(whole))
    with contextlib.suppress(AudioError), Recording.open(path) as recording:
        assert recording.n_samples == 1500


@pytest.mark.parametrize("rate", [1, 12, 2_000_000_000])
def test_a_rate_that_no_sound_has_is_refused(folder, rate):
    # Resampled from 12 Hz, a minute of CD sound would be two and a half days of the analysis signal.
    whole = bytearray(sound_bytes(".wav", "PCM_16"))
    whole[24:28] = struct.pack("<I", rate)
    path = folder / "slow.wav"
    path.write_bytes(bytes(whole))
    with pytest.raises(AudioError, match=f"stated rate of {rate} Hz"):
        Recording.open(path)


def beat():
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000), mido.MetaMessage("time_signature")])
    for number in (36, 42, 38, 42) * 2:
        track.append(mido.Message("note_on", channel=9, note=number, velocity=100, time=0))
        track.append(mido.Message("note_off", channel=9, note=number, velocity=0, time=240))
    target = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(file=target)
    return target.getvalue()


@given(data=st.data())
def test_a_faulty_midi_file(folder, fault, survives, data):
    path = folder / "beat.mid"
    path.write_bytes(data.draw(fault(beat())))
    rhythm = survives("MIDI", read_midi, path)
    if rhythm is not None:
        assert rhythm.events
        assert rhythm.events[-1].onset_s < rhythm.length_s
        # It can be played: looped to the length of a song, moved to another tempo and onto the grid.
        assert survives("MIDI, played", rhythm.section, 0.3, 100.0) is not None
        assert survives("MIDI, played", rhythm.at_tempo, 100.0) is not None
        assert survives("MIDI, played", rhythm.snapped, 0.0) is not None


def test_a_rhythm_of_less_than_a_blink_is_refused():
    # Two flipped bits of a tempo make 288 microseconds of a beat of half a second.
    data = beat().replace(bytes([0xFF, 0x51, 3, 0x07, 0xA1, 0x20]), bytes([0xFF, 0x51, 3, 0x00, 0x01, 0x20]))
    with pytest.raises(RhythmError, match=r"is over after 1\.15 ms"):
        parse_midi(data, name="beat")


@pytest.fixture(scope="module")
def tiny_weights():
    config = TranscriberConfig(widths=(2, 2, 2, 2), d_model=4, dilations=(1,))
    return save(
        TranscriberNet(config).half().state_dict(),
        {"model": "transcriber", "config": config_to_json(config)},
    )


@given(data=st.data())
def test_faulty_weights(folder, fault, survives, tiny_weights, data):
    # What a network holds is told by the preset's checksum; here, what describes it is harmed.
    head = tiny_weights[: 8 + int.from_bytes(tiny_weights[:8], "little")]
    harmed = data.draw(st.one_of(fault(head, is_text=True), fault(head)))
    path = folder / "net.safetensors"
    path.write_bytes(harmed + tiny_weights[len(head) :])
    survives("weights", load_net, path, "transcriber", TranscriberConfig, TranscriberNet)


def test_weights_of_a_network_of_billions_take_no_memory(folder, tiny_weights):
    config = TranscriberConfig(d_model=60_000)
    state = {"weight": torch.zeros(4, dtype=torch.float16)}
    path = folder / "huge.safetensors"
    path.write_bytes(save(state, {"model": "transcriber", "config": config_to_json(config)}))
    with pytest.raises(CheckpointError, match=r"does not fit its own configuration: .* has the shape"):
        load_net(path, "transcriber", TranscriberConfig, TranscriberNet)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 4.5},
        {"d_model": 0},
        {"widths": "abcd"},
        {"widths": [2, 2, 2, None]},
        {"min_gap_s": math.nan},
        {"thresholds": [0.5] * 4 + [10**400]},
        {"features": {"hop": 0}},
        {"features": {"windows": [2**40]}},
        {"features": {"n_bands": -8}},
        {"features": {"low_hz": 20_000.0}},
        {"features": [[["hop", 441]]]},
    ],
    ids=str,
)
def test_a_configuration_that_none_can_have(folder, change):
    config = TranscriberConfig(widths=(2, 2, 2, 2), d_model=4, dilations=(1,))
    state = TranscriberNet(config).state_dict()
    written = json.loads(config_to_json(config)) | change
    path = folder / "odd.safetensors"
    path.write_bytes(save(state, {"model": "transcriber", "config": json.dumps(written)}))
    with pytest.raises(CheckpointError):
        load_net(path, "transcriber", TranscriberConfig, TranscriberNet)


TOML = """format = 1
name = "tiny"
configuration = "hires"
classes = ["KD", "SD", "TT", "HH", "CY"]
sample_rate = 44100

[models.transcriber]
file = "net.safetensors"
sha256 = "{sha256}"
parameters = 4
command = "redrum train transcriber"

[data]
kits = ["CC0-1.0"]

[scores]
"class F @50 ms" = 0.5
"""


@pytest.fixture(scope="module")
def preset_folder(tmp_path_factory, tiny_weights):
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    folder.mkdir()
    (folder / "net.safetensors").write_bytes(tiny_weights)
    text = TOML.format(sha256=hashlib.sha256(tiny_weights).hexdigest())
    (folder / "preset.toml").write_text(text, encoding="utf-8")
    (folder / "CARD.md").write_text("# tiny\n", encoding="utf-8")
    return folder


@given(data=st.data())
def test_a_faulty_preset(preset_folder, tmp_path_factory, fault, survives, data):
    harmed = data.draw(st.sampled_from(["preset.toml", "net.safetensors"]))
    folder = tmp_path_factory.getbasetemp() / "harmed preset"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(preset_folder, folder)
    before = (folder / harmed).read_bytes()
    after = data.draw(fault(before, is_text=harmed == "preset.toml"))
    (folder / harmed).write_bytes(after)

    def read():
        preset = load_preset(folder)
        weights = preset.weights("transcriber")
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == preset.models["transcriber"].sha256

    survives(f"preset folder, {harmed}", read)


@pytest.mark.parametrize("number", ["9" * 5000, "1e999", "-1", "true"])
def test_a_number_that_no_preset_has(preset_folder, tmp_path, number):
    shutil.copytree(preset_folder, tmp_path / "preset")
    toml = tmp_path / "preset" / "preset.toml"
    toml.write_text(toml.read_text().replace("44100", number))
    with pytest.raises(CheckpointError, match=r"preset\.toml"):
        load_preset(tmp_path / "preset")


def test_lists_in_lists_in_lists(preset_folder, kit_folder, tmp_path):
    shutil.copytree(preset_folder, tmp_path / "preset")
    toml = tmp_path / "preset" / "preset.toml"
    toml.write_text(toml.read_text().replace('["CC0-1.0"]', "[" * 100_000))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_preset(tmp_path / "preset")
    shutil.copytree(kit_folder, tmp_path / "kit")
    (tmp_path / "kit" / "kit.json").write_text('{"schema": 1, "name": ' + "[" * 100_000)
    with pytest.raises(CheckpointError, match="damaged"):
        load_kit(tmp_path / "kit")


@given(data=st.data())
def test_a_faulty_preset_archive(preset_folder, tmp_path_factory, fault, survives, data):
    folder = tmp_path_factory.getbasetemp()
    user = folder / "user"
    shutil.rmtree(user, ignore_errors=True)
    archive = folder / "tiny.redrum"
    export_preset(load_preset(preset_folder), archive, overwrite=True)
    archive.write_bytes(data.draw(fault(archive.read_bytes())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDRUM_DATA", str(user))
        preset = survives("preset archive", import_preset, archive)
    left = {path.name for path in user.rglob("*")}
    if preset is None:
        assert not left  # what is refused leaves nothing
    else:
        assert preset.weights("transcriber").is_file()
        assert left == {"presets", preset.name, *(file.name for file in preset_folder.iterdir())}


@pytest.fixture(scope="module")
def kit_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kits") / "kit"
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 4000)).astype(np.float32)
    hits = [
        Hit(
            classes=frozenset({c}),
            attack=4000 * n,
            level=0.1,
            velocities={c: 0.5},
            articulations=frozenset(),
            faults=0.0,
        )
        for n, c in enumerate(("KD", "SD", "HH"))
    ]
    fmt = AudioFormat(sample_rate=RATE, n_channels=1, subtype="PCM_16")
    save_kit(Bank(hits, lambda _: sound, sample_rate=RATE, n_channels=1), folder, fmt=fmt, name="loop")
    return folder


@given(data=st.data())
def test_a_faulty_kit(kit_folder, tmp_path_factory, fault, survives, data):
    harmed = data.draw(st.sampled_from(["kit.json", "kit.json", "KD_1.wav", "loop.sfz"]))
    folder = tmp_path_factory.getbasetemp() / "harmed kit"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kit_folder, folder)
    before = (folder / harmed).read_bytes()
    (folder / harmed).write_bytes(data.draw(fault(before, is_text=harmed == "kit.json")))

    def play():
        bank = load_kit(folder)
        for hits in bank.sets.values():
            for hit in hits:
                assert math.isfinite(hit.level)
                assert math.isfinite(hit.velocity)
                assert np.isfinite(bank.sound(hit)).all()

    survives(f"kit, {harmed}", play)
    survives(f"kit, {harmed}, to be replaced", partial(check_kit_folder, folder, overwrite=True))
