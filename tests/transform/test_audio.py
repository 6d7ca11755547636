import itertools
import os
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from transform import audio, audio_writing, files
from transform.audio import (
    AudioFormat,
    Recording,
    check_output,
    resolve_output,
    write_audio,
    write_bytes_atomic,
    write_text_atomic,
)
from transform.errors import AudioError, OutputError, SettingsError

LOSSLESS_ENDINGS = [".wav", ".flac", ".aiff", ".aif", ".caf", ".w64", ".rf64"]


def noise(n_samples, n_channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n_channels, n_samples)).astype(np.float32)


def fmt(sample_rate=44_100, n_channels=1, subtype="PCM_24"):
    return AudioFormat(sample_rate=sample_rate, n_channels=n_channels, subtype=subtype, is_lossy=False)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def cut(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])
    return path


# Recordings: what is read


def test_a_file_keeps_its_rate_channels_depth_and_samples(write_wav, subtests):
    for sample_rate in [8_000, 44_100, 48_000, 96_000, 192_000]:
        for n_channels in [1, 2, 6]:
            with subtests.test(sample_rate=sample_rate, n_channels=n_channels):
                sound = noise(1000, n_channels)
                with Recording.open(write_wav("a.wav", sound, sample_rate, "FLOAT")) as recording:
                    assert recording.format == fmt(sample_rate, n_channels, "FLOAT")
                    assert (recording.sample_rate, recording.n_channels, recording.n_samples) == (
                        sample_rate,
                        n_channels,
                        1000,
                    )
                    assert recording.duration_s == 1000 / sample_rate
                    assert recording.name == "a"
                    np.testing.assert_array_equal(recording.read(0, 1000), sound)


def test_reading_outside_the_recording_gives_zeros(write_wav):
    sound = noise(100, 2)
    with Recording.open(write_wav("a.wav", sound, subtype="FLOAT")) as recording:
        block = recording.read(-5, 110)
        assert block.dtype == np.float32
        assert block.shape == (2, 115)
        assert not block[:, :5].any()
        assert not block[:, 105:].any()
        np.testing.assert_array_equal(block[:, 5:105], sound)
        assert not recording.read(500, 510).any()
        assert recording.read(7, 7).shape == (2, 0)


def test_samples_in_memory_read_like_a_file(write_wav):
    sound = noise(5000, 2)
    recording = Recording.from_samples(sound, 48_000, name="loop")
    assert (recording.path, recording.name, recording.n_samples) == (None, "loop", 5000)
    with Recording.open(write_wav("a.wav", sound, 48_000, "FLOAT")) as file:
        np.testing.assert_array_equal(recording.read(-3, 5003), file.read(-3, 5003))
        for ours, theirs in zip(recording.mono_blocks(), file.mono_blocks(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert Recording.from_samples(sound[0], 48_000).n_channels == 1


def test_any_order_of_reading_gives_the_same_samples(write_wav, subtests):
    for ending in ["flac", "ogg", "mp3", "aiff", "caf", "w64", "au"]:
        with subtests.test(ending=ending):
            path = write_wav(f"a.{ending}", noise(200_000, 2), subtype=None)
            whole = soundfile.read(path, dtype="float32")[0].T
            with Recording.open(path) as recording:
                assert recording.format.is_lossy == (ending in ("ogg", "mp3"))
                assert recording.n_samples == 200_000
                for start in (
                    150_000,
                    3,
                    199_000,
                    100_000,
                    0,
                ):  # libsndfile's own seeking in OGG misses at the end
                    np.testing.assert_array_equal(
                        recording.read(start, start + 1000), whole[:, start : start + 1000]
                    )


def test_an_unclosed_lossy_recording_leaves_nothing_open(write_wav):
    recording = Recording.open(write_wav("a.ogg", noise(2000), subtype=None))
    recording.read(0, 10)
    del recording  # an open file would warn here, and warnings are errors


@pytest.mark.parametrize(
    "name", ["Überschlag 鼓 loop.wav", "with  two spaces/ät the end .flac", "a'b\"c#%.aiff"]
)
def test_any_name_can_be_read_and_written(tmp_path, name):
    if os.name == "nt" and '"' in name:
        pytest.skip("Windows forbids quotes in names")
    path, sound = tmp_path / name, noise(50)
    write_audio(path, [sound], fmt())
    with Recording.open(path) as recording:
        assert recording.name == Path(name).stem
        np.testing.assert_allclose(recording.read(0, 50), sound, atol=2**-23)


def test_one_sample(write_wav):
    with Recording.open(write_wav("a.wav", np.array([0.5]))) as recording:
        assert recording.read(-1, 2).tolist() == [[0, 0.5, 0]]
        assert [len(block) for block in recording.mono_blocks()] == [1]


# Recordings: the analysis signal


def test_streamed_resampling_equals_resampling_at_once(subtests):
    for sample_rate in [8_000, 11_025, 22_050, 48_000, 88_200, 96_000, 192_000]:
        for block_s in [0.05, 0.37, 10.0]:
            with subtests.test(sample_rate=sample_rate, block_s=block_s):
                sound = noise(sample_rate + 777, 2)
                recording = Recording.from_samples(sound, sample_rate)
                streamed = np.concatenate(list(recording.mono_blocks(block_s=block_s)))
                at_once = soxr.resample(sound.mean(axis=0), sample_rate, 44_100)
                assert len(streamed) == round(sound.shape[1] * 44_100 / sample_rate)
                common = min(len(streamed), len(at_once))
                np.testing.assert_allclose(streamed[:common], at_once[:common], atol=1e-4)


def test_an_impulse_stays_at_its_time_in_the_analysis_signal(subtests):
    for sample_rate in [8_000, 22_050, 44_100, 48_000, 96_000, 192_000]:
        with subtests.test(sample_rate=sample_rate):
            onsets_s = [0.25, 0.75, 1.5]
            sound = np.zeros((2, 2 * sample_rate))
            sound[:, [round(onset_s * sample_rate) for onset_s in onsets_s]] = 0.9
            recording = Recording.from_samples(sound, sample_rate)
            mono = np.concatenate(list(recording.mono_blocks(block_s=0.1)))
            for onset_s in onsets_s:
                at = round(onset_s * 44_100)
                peak = at - 200 + int(np.abs(mono[at - 200 : at + 200]).argmax())
                assert abs(peak - at) <= 1


def test_the_analysis_signal_of_short_sounds_is_exactly_as_long_as_promised(subtests):
    for sample_rate in [8_000, 48_000, 192_000]:
        for n_samples in [1, 2, 3, 50, 4409, 4411]:
            with subtests.test(sample_rate=sample_rate, n_samples=n_samples):
                recording = Recording.from_samples(noise(n_samples), sample_rate)
                n_analysis = sum(len(block) for block in recording.mono_blocks())
                assert n_analysis == max(1, round(n_samples * 44_100 / sample_rate))


def test_the_analysis_signal_is_the_mean_of_the_channels():
    sound = noise(1000, 6)
    mono = np.concatenate(list(Recording.from_samples(sound, 44_100).mono_blocks(block_s=0.01)))
    np.testing.assert_array_equal(mono, sound.mean(axis=0))


def heard_of(sound):
    recording = Recording.from_samples(sound, 44_100)
    return np.concatenate(list(recording.mono_blocks(block_s=0.01))), recording.mono_peak


def test_channels_that_cancel_each_other_are_heard_by_the_loudest():
    sound = noise(10_000)[0]
    mono, peak = heard_of(np.stack((0.9 * sound, -sound)))
    np.testing.assert_array_equal(mono, -sound)
    assert peak == np.abs(sound).max()
    # All of it: where nothing cancels for a while, the same channel is heard, in one pass as in blocks.
    partly = np.stack((0.9 * sound, -sound))
    partly[1, 2000:2500] = sound[2000:2500]
    np.testing.assert_array_equal(heard_of(partly)[0], partly[1])
    np.testing.assert_array_equal(Recording.from_samples(partly, 44_100).mono(2000, 2500), partly[1, 2000:2500])


def test_channels_of_which_something_is_left_are_heard_by_their_mean():
    one, other = noise(20_000, 2)
    for sound in (
        np.stack((one, other)),
        np.stack((one, np.zeros_like(one))),
        np.stack((one + other, one - other)),
        np.stack((one, -0.4 * one)),
    ):
        mono, peak = heard_of(sound)
        np.testing.assert_array_equal(mono, sound.mean(axis=0))
        assert peak == pytest.approx(np.abs(sound.mean(axis=0)).max())
    assert not heard_of(np.zeros((2, 100), np.float32))[0].any()


@pytest.mark.slow
def test_half_an_hour_needs_no_more_memory_than_seconds(tmp_path):
    minute = np.zeros((2, 60 * 8_000), np.float32)
    minute[:, ::8_000] = 0.5
    path, copy = tmp_path / "long.wav", tmp_path / "copy.wav"
    tracemalloc.start()
    write_audio(path, itertools.repeat(minute, 30), fmt(8_000, 2, "PCM_16"))
    tracemalloc.reset_peak()
    with Recording.open(path) as recording:
        n_analysis = sum(len(block) for block in recording.mono_blocks())
        starts = range(0, recording.n_samples, 2**16)
        write_audio(
            copy, (recording.read(at, min(at + 2**16, recording.n_samples)) for at in starts), recording.format
        )
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_analysis == 30 * 60 * 44_100
    assert copy.read_bytes() == path.read_bytes()
    assert peak_bytes < 12e6  # all of it is 115 MB as float32, its analysis signal 318 MB


# Recordings: bad input


def test_a_missing_file():
    with pytest.raises(AudioError, match=r"nowhere\.wav does not exist") as caught:
        Recording.open(Path("nowhere.wav"))
    assert caught.value.exit_code == 1
    assert caught.value.hint


def test_a_folder(tmp_path):
    with pytest.raises(AudioError, match="is a folder"):
        Recording.open(tmp_path)


def test_what_is_neither_file_nor_folder():
    with pytest.raises(AudioError, match=r"is not a file|does not exist"):
        Recording.open(Path(os.devnull))


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.wav"
    path.touch()
    with pytest.raises(AudioError, match=r"empty\.wav is empty"):
        Recording.open(path)


@pytest.mark.parametrize("ending", ["wav", "aiff", "w64", "rf64"])
def test_a_file_without_samples(write_wav, ending):
    with pytest.raises(AudioError, match="holds no samples"):
        Recording.open(write_wav(f"none.{ending}", np.zeros((1, 0)), subtype="PCM_16"))


def test_what_is_no_sound_file(tmp_path, subtests):
    cases = [b"kick, snare, kick, snare\n" * 100, b"RIFF", b"RIFF\0\0\0\0WAVE", b"\0" * 999]
    others = ["notes.wav", "notes.aiff", "notes.flac", "notes.raw", "notes.au", "notes.mid", "notes"]
    for content in cases:
        for name in others:
            with subtests.test(content=content, name=name):
                path = tmp_path / name
                path.write_bytes(content)
                with pytest.raises(AudioError, match=r"is not a sound file that can be read") as caught:
                    Recording.open(path)
                assert "WAV" in caught.value.hint


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("ending", ["wav", "aiff", "flac", "w64", "rf64", "caf", "au", "mp3"])
def test_a_file_that_is_cut_is_read_as_far_as_it_goes(write_wav, caplog, kept, ending):
    path = write_wav(f"cut.{ending}", noise(88_200, 2), subtype=None)
    with Recording.open(path) as recording:
        whole = recording.read(0, recording.n_samples)
    caplog.clear()
    with Recording.open(cut(path, int(kept * path.stat().st_size))) as recording:
        n_samples = recording.n_samples
        assert kept * 88_200 - 6000 < n_samples < kept * 88_200 + 2000
        found = recording.read(0, n_samples)
    if ending == "mp3":
        assert np.corrcoef(found[0, :10_000], whole[0, :10_000])[0, 1] > 0.9  # it begins at the same sample
    else:
        np.testing.assert_array_equal(found, whole[:, :n_samples])
    assert len(caplog.messages) == 1
    assert "missing" in caplog.messages[0]


def test_a_file_truncated_in_its_header(write_wav, subtests):
    for n_bytes in [1, 4, 12, 20, 24, 40]:
        for ending in ["wav", "aiff", "flac", "w64", "rf64", "caf", "au", "mp3", "ogg"]:
            if (ending, n_bytes) == ("au", 40):  # whose header has 24
                continue
            with subtests.test(n_bytes=n_bytes, ending=ending):
                path = write_wav(f"cut.{ending}", noise(4410, 2), subtype=None)
                with pytest.raises(AudioError):
                    Recording.open(cut(path, n_bytes))


def test_a_missing_pad_byte_or_trailing_chunk_is_no_truncation(write_wav):
    path = write_wav("odd.wav", noise(99), subtype="PCM_24")
    header = path.read_bytes()[:40]
    path.write_bytes(header + struct.pack("<I", 298) + path.read_bytes()[44:341])
    with Recording.open(path) as recording:
        assert recording.n_samples == 99
    path = write_wav("tail.wav", noise(100), subtype="PCM_16")
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 5000) + b"cut")
    with Recording.open(path) as recording:
        assert recording.n_samples == 100


def test_a_wav_of_unknown_length_is_read_to_its_end(write_wav):
    path = write_wav("pipe.wav", noise(1000), subtype="PCM_16")  # as ffmpeg writes to a pipe
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    path.write_bytes(content)
    with Recording.open(path) as recording:
        assert recording.n_samples == 1000


def test_a_flac_file_of_unknown_length(write_wav):
    path = write_wav("pipe.flac", noise(10_000), subtype="PCM_16")
    whole = shutil.copy(path, path.with_name("whole.flac"))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with Recording.open(path) as recording:
        np.testing.assert_array_equal(recording.read(0, recording.n_samples), soundfile.read(whole)[0][None])


def test_a_file_that_is_damaged_inside(write_wav):
    path = write_wav("hole.flac", noise(400_000), subtype=None)
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    del content[half : half + len(content) // 4]
    path.write_bytes(content)
    with pytest.raises(AudioError, match="cannot be decoded"), Recording.open(path) as recording:  # noqa: PT012
        for start in range(0, 400_000, 10_000):
            recording.read(start, start + 10_000)


def test_a_value_that_is_not_a_number(write_wav, subtests):
    for in_memory in [False, True]:
        for value in [np.nan, np.inf, -np.inf]:
            with subtests.test(in_memory=in_memory, value=value):
                sound = noise(88_200, 2)
                sound[1, 66_150] = value
                if in_memory:
                    recording = Recording.from_samples(sound, 44_100)
                else:
                    recording = Recording.open(write_wav("bad.wav", sound, subtype="FLOAT"))
                with recording:
                    assert recording.read(0, 66_150).shape == (2, 66_150)
                    with pytest.raises(AudioError, match=r"not a number .* at 1\.500 s"):
                        recording.read(60_000, 70_000)
                    with pytest.raises(AudioError, match=r"not a number .* at 1\.500 s"):
                        list(recording.mono_blocks())


@pytest.mark.parametrize("value", [1e38, -1e30, 1.1e6])
def test_a_value_far_beyond_full_scale(write_wav, value):
    sound = noise(88_200, 2)
    sound[1, 66_150] = value
    with Recording.open(write_wav("loud.wav", sound, subtype="FLOAT")) as recording:
        with pytest.raises(AudioError, match=r"far beyond full scale at 1\.500 s"):
            recording.mono(60_000, 70_000)
        assert recording.read(0, 66_150).shape == (2, 66_150)


def test_a_value_beyond_full_scale_that_an_editor_makes(write_wav):
    with Recording.open(write_wav("hot.wav", 100 * noise(1000), subtype="FLOAT")) as recording:
        assert np.abs(recording.read(0, 1000)).max() > 49


def with_zeros(path, head, n_bytes=2**27):
    with path.open("wb") as file:
        file.write(head)
        file.truncate(n_bytes)
    return path


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0",
        b"RF64\xff\xff\xff\xffWAVE",
        b"FORM\x7f\xff\xff\xffAIFF",
        b"caff\0\1\0\0",
    ],
    ids=lambda head: head[:4].decode(),
)
def test_zeros_that_go_on_as_chunks_without_end(tmp_path, head):
    # One chunk in eight or twelve bytes of them: minutes, where all are looked at.
    with pytest.raises(AudioError, match="more than 10,000 chunks"):
        Recording.open(with_zeros(tmp_path / "zeros.wav", head))


def test_more_channels_and_hours_than_any_recording_has(write_wav, monkeypatch):
    with pytest.raises(AudioError, match="has 65 channels, more than 64"):
        Recording.open(write_wav("wide.wav", noise(100, 65)))
    Recording.open(write_wav("mics.wav", noise(100, 64))).close()
    monkeypatch.setattr(audio, "_LONGEST_S", 1.0)
    with pytest.raises(AudioError, match="lasts more than a day"):
        Recording.open(write_wav("long.wav", noise(50_000)))


@pytest.mark.parametrize(
    ("shape", "sample_rate", "message"),
    [
        ((2, 0), 44_100, "no samples"),
        ((0,), 44_100, "no samples"),
        ((2, 3, 4), 44_100, "shape"),
        ((44_100, 2), 44_100, "shape"),
        ((2, 100), 0, "sample rate"),
    ],
)
def test_samples_that_are_no_recording(shape, sample_rate, message):
    with pytest.raises(AudioError, match=message):
        Recording.from_samples(np.zeros(shape), sample_rate)


# Recordings: the tempo they state


def test_the_tempo_in_a_name(subtests, tmp_path, monkeypatch):
    cases = [
        ("funk 120bpm", 120),
        ("funk_92.5 BPM_a", 92.5),
        ("Amen-174-BPM", 174),
        ("BPM 45 slow", 45),
        ("funk_96_a", 96),
        ("1_funk-groove1_138_beat_4-4", 138),
        ("loop (100)", 100),
        ("100", 100),
        ("funk_96_100bpm", 100),
        ("tr808", None),
        ("snare_127b", None),
        ("funk_59_a", None),
        ("funk_221_a", None),
        ("funk_96_120", None),
        ("take 2", None),
        ("5000bpm", None),
        ("recording", None),
        ("hip-hop-bounce-140", 140),
        ("loop_hip-hop-bounce-140", None),  # called after a rhythm, at whose tempo it need not play
        ("loop-96bpm_hip-hop-bounce-140", None),
        ("Loop (Hip-Hop-Bounce-140) KD", None),
        ("loop_my-beat-99_2", None),  # a rhythm that the user added
        ("my_samba_96", 96),
        ("loop_140", 140),
        ("loop-120bpm", 120),
    ]
    (tmp_path / "rhythms").mkdir()
    for rhythm in ("my-beat-99", "140", "120bpm", "samba"):
        (tmp_path / "rhythms" / f"{rhythm}.mid").touch()
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path))
    for name, tempo in cases:
        with subtests.test(name=name, tempo=tempo):
            stated = Recording.from_samples(noise(10), 44_100, name=name).tempo_bpm()
            assert stated == (None if tempo is None else (tempo, "file name"))


def with_acid_chunk(path, kind, tempo):
    chunk = b"acid" + struct.pack("<IIHHfIHHf", 24, kind, 60, 0x8000, 0.0, 8, 4, 4, tempo)
    content = path.read_bytes() + chunk
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    return path


@pytest.mark.parametrize(
    ("kind", "tempo", "stated"),
    [
        (0, 97.25, (97.25, "acid tag")),
        (1, 97.25, (120.0, "file name")),  # a one-shot's tempo means nothing
        (0, 0.0, (120.0, "file name")),
        (0, np.nan, (120.0, "file name")),
    ],
)
def test_the_tempo_in_an_acid_chunk_goes_before_the_name(write_wav, kind, tempo, stated):
    path = with_acid_chunk(write_wav("loop 120bpm.wav", noise(101), subtype="PCM_24"), kind, tempo)
    with Recording.open(path) as recording:
        assert recording.n_samples == 101
        assert recording.tempo_bpm() == stated


# Results: formats


def test_integer_samples_come_back_bit_by_bit(tmp_path, subtests):
    for subtype in ["PCM_16", "PCM_24"]:
        for ending in LOSSLESS_ENDINGS:
            with subtests.test(subtype=subtype, ending=ending):
                bits = int(subtype[-2:])
                levels = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (2, 20_000))
                levels[0, :4] = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1]
                path, copy = tmp_path / f"{bits}{ending}", tmp_path / f"{bits} again{ending}"
                sound = (levels / 2 ** (bits - 1)).astype(np.float32)
                write_audio(path, [sound[:, :7000], sound[:, 7000:]], fmt(48_000, 2, subtype))
                stored = soundfile.read(path, dtype="int32")[0].T >> (32 - bits)
                np.testing.assert_array_equal(stored, levels)
                with Recording.open(path) as recording:
                    assert recording.format == fmt(48_000, 2, subtype)
                    write_audio(copy, [recording.read(0, recording.n_samples)], recording.format)
                assert copy.read_bytes() == path.read_bytes()


def test_other_depths_come_back_too(tmp_path, subtests):
    cases = [
        (".wav", "PCM_U8"),
        (".aiff", "PCM_S8"),
        (".flac", "PCM_S8"),
        (".wav", "PCM_32"),
        (".wav", "FLOAT"),
        (".wav", "DOUBLE"),
        (".aiff", "FLOAT"),
        (".caf", "FLOAT"),
        (".w64", "PCM_32"),
    ]
    for ending, subtype in cases:
        with subtests.test(ending=ending, subtype=subtype):
            path = tmp_path / f"{subtype}{ending}"
            sound = np.round(noise(1000, 6) * 128) / np.float32(128)
            write_audio(path, [sound], fmt(n_channels=6, subtype=subtype))
            with Recording.open(path) as recording:
                assert recording.format == fmt(n_channels=6, subtype=subtype)
                np.testing.assert_array_equal(recording.read(0, 1000), sound)


def test_rates_and_channels_come_back(tmp_path, subtests):
    for ending in [".wav", ".flac", ".aiff"]:
        for n_channels in [1, 2, 6]:
            for sample_rate in [8_000, 192_000]:
                with subtests.test(ending=ending, n_channels=n_channels, sample_rate=sample_rate):
                    path = tmp_path / f"{n_channels} {sample_rate}{ending}"
                    write_audio(path, [noise(300, n_channels)], fmt(sample_rate, n_channels))
                    with Recording.open(path) as recording:
                        assert (recording.format, recording.n_samples) == (fmt(sample_rate, n_channels), 300)


def test_the_same_samples_give_the_same_bytes_later(tmp_path):
    formats = [
        pair for pair in itertools.product(LOSSLESS_ENDINGS, ["PCM_24", "FLOAT"]) if pair != (".flac", "FLOAT")
    ]
    for name in ("first", "second"):
        for ending, subtype in formats:
            write_audio(
                tmp_path / subtype / (name + ending), [noise(100, 2)], fmt(n_channels=2, subtype=subtype)
            )
        time.sleep(1.1 * (name == "first"))  # libsndfile's note of the time counts seconds
    for ending, subtype in formats:
        first, second = (tmp_path / subtype / (name + ending) for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes(), (ending, subtype)


def test_float_files_hold_no_date(tmp_path):
    for name in ("a.wav", "a.aiff"):
        write_audio(tmp_path / name, [noise(100)], fmt(subtype="FLOAT"))
        content = (tmp_path / name).read_bytes()
        at = content.index(b"PEAK")
        assert content[at + 12 : at + 16] == bytes(4)


def test_the_format_of_a_result(subtests):
    cases = [
        ("a.wav", "PCM_16", None, ("WAV", "PCM_16")),
        ("a.WAV", "PCM_24", None, ("WAV", "PCM_24")),
        ("a.wav", "DOUBLE", None, ("WAV", "DOUBLE")),
        ("a.wav", "PCM_S8", None, ("WAV", "PCM_U8")),
        ("a.flac", "PCM_U8", None, ("FLAC", "PCM_S8")),
        ("a.flac", "FLOAT", None, ("FLAC", "PCM_24")),
        ("a.flac", "PCM_32", None, ("FLAC", "PCM_24")),
        ("a.wav", "ALAC_16", None, ("WAV", "PCM_16")),
        ("a.wav", "ALAC_20", None, ("WAV", "PCM_24")),
        ("a.wav", "VORBIS", None, ("WAV", "PCM_24")),
        ("a.wav", "MPEG_LAYER_III", None, ("WAV", "PCM_24")),
        ("a.wav", "ULAW", None, ("WAV", "PCM_24")),
        ("a.wav", "PCM_24", "16", ("WAV", "PCM_16")),
        ("a.aif", "PCM_16", "24", ("AIFF", "PCM_24")),
        ("a.caf", "PCM_16", "32", ("CAF", "PCM_32")),
        ("a.rf64", "PCM_16", "32f", ("RF64", "FLOAT")),
        ("a.w64", "PCM_16", "32f", ("W64", "FLOAT")),
    ]
    for name, source, bit_depth, expected in cases:
        with subtests.test(name=name, source=source, bit_depth=bit_depth, expected=expected):
            assert resolve_output(Path(name), fmt(subtype=source), bit_depth) == expected


def test_a_format_that_is_not_possible(subtests):
    cases = [
        ("a.mp3", 2, None, "lossless"),
        ("a.ogg", 2, None, "lossless"),
        ("a", 2, None, "lossless"),
        ("a.flac", 9, None, "8 channels, not 9"),
        ("a.flac", 2, "32f", "FLAC does not hold 32f bits"),
        ("a.flac", 2, "32", "FLAC does not hold 32 bits"),
        ("a.wav", 2, "12", "bit depth is 12"),
    ]
    for name, n_channels, bit_depth, message in cases:
        with subtests.test(name=name, n_channels=n_channels, bit_depth=bit_depth, message=message):
            with pytest.raises(SettingsError, match=message) as caught:
                resolve_output(Path(name), fmt(n_channels=n_channels), bit_depth)
            assert caught.value.exit_code == 2
            assert caught.value.hint


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_32"])
def test_a_wav_beyond_its_limit_becomes_rf64(tmp_path, monkeypatch, subtype):
    monkeypatch.setattr(audio_writing, "_WAV_LIMIT_BYTES", 100_000)
    path = tmp_path / "long.wav"
    sound = np.round(noise(90_000, 2) * 2**15) / np.float32(2**15)
    write_audio(path, np.array_split(sound, 30, axis=1), fmt(n_channels=2, subtype=subtype))
    assert names_in(tmp_path) == ["long.wav"]
    assert path.read_bytes()[:4] == b"RF64"
    with Recording.open(path) as recording:
        assert recording.format == fmt(n_channels=2, subtype=subtype)
        np.testing.assert_array_equal(recording.read(0, 90_000), sound)


def test_samples_beyond_full_scale_are_never_clipped(tmp_path):
    loud = np.array([[0.0, 1.01, -1.2]], np.float32)
    with pytest.raises(AssertionError, match=r"reaches 1\.2000"):
        write_audio(tmp_path / "a.wav", [noise(100), loud], fmt())
    assert names_in(tmp_path) == []
    write_audio(tmp_path / "float.wav", [loud], fmt(subtype="FLOAT"))
    with Recording.open(tmp_path / "float.wav") as recording:
        np.testing.assert_array_equal(recording.read(0, 3), loud)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_a_result_that_is_not_a_number_is_never_written(tmp_path, subtype, value):
    with pytest.raises(AssertionError, match="not finite"):
        write_audio(tmp_path / "a.wav", [np.full((1, 5), value, np.float32)], fmt(subtype=subtype))
    assert names_in(tmp_path) == []


# Results: files that appear whole or not at all


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "new" / "föld er" / "a.wav"
    check_output(path, overwrite=False)
    assert names_in(tmp_path) == []
    write_audio(path, [noise(10)], fmt())
    assert names_in(path.parent) == ["a.wav"]


def write_sound(path, overwrite=False):
    write_audio(path, [noise(10)], fmt(), overwrite=overwrite)


def write_text(path, overwrite=False):
    write_text_atomic(path, "äöü\n", overwrite=overwrite)


@pytest.mark.parametrize("write", [write_sound, write_text])
def test_an_existing_file_is_replaced_only_when_asked(tmp_path, write):
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    for refused in (lambda: check_output(path, overwrite=False), lambda: write(path)):
        with pytest.raises(OutputError, match="exists already") as caught:
            refused()
        assert caught.value.exit_code == 1
        assert "--overwrite" in caught.value.hint
    assert path.read_bytes() == b"precious"
    check_output(path, overwrite=True)
    assert path.read_bytes() == b"precious"
    write(path, overwrite=True)
    assert path.read_bytes() != b"precious"
    assert names_in(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appears_during_the_work_is_not_replaced(tmp_path, monkeypatch, has_links):
    path = tmp_path / "a.wav"
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)

    def blocks():
        yield noise(10)
        path.write_bytes(b"precious")
        yield noise(10)

    with pytest.raises(OutputError, match="exists already"):
        write_audio(path, blocks(), fmt())
    assert path.read_bytes() == b"precious"
    assert names_in(tmp_path) == ["a.wav"]


def no_links(*_, **__):
    raise PermissionError(1, "Operation not permitted")


def test_a_file_system_without_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    write_bytes_atomic(tmp_path / "a.mid", b"MThd")
    assert (tmp_path / "a.mid").read_bytes() == b"MThd"
    monkeypatch.setattr(os, "replace", no_links)
    with pytest.raises(OutputError, match="Operation not permitted"):
        write_bytes_atomic(tmp_path / "b.mid", b"MThd")
    assert names_in(tmp_path) == ["a.mid"]


def test_text_is_written_as_it_is(tmp_path):
    write_text_atomic(tmp_path / "a.json", "one\r\ntwö\n")
    assert (tmp_path / "a.json").read_bytes() == "one\r\ntwö\n".encode()


@pytest.mark.parametrize("error", [KeyboardInterrupt, AudioError("the source is damaged"), MemoryError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, error, overwrite):
    if overwrite:
        (tmp_path / "a.wav").write_bytes(b"precious")

    def blocks():
        yield noise(100_000)
        assert len(names_in(tmp_path)) == 1 + overwrite  # the unfinished file lies beside the target
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        write_audio(tmp_path / "a.wav", blocks(), fmt(), overwrite=overwrite)
    assert names_in(tmp_path) == (["a.wav"] if overwrite else [])
    if overwrite:
        assert (tmp_path / "a.wav").read_bytes() == b"precious"


def test_an_interrupt_while_the_file_is_published(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sound(tmp_path / "a.wav")
    assert names_in(tmp_path) == []


def test_the_target_is_a_folder(tmp_path):
    for refused in (check_output, write_bytes_to):
        with pytest.raises(OutputError, match="is a folder"):
            refused(tmp_path, overwrite=True)


def write_bytes_to(path, overwrite):
    write_bytes_atomic(path, b"", overwrite=overwrite)


def test_a_folder_on_the_way_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.wav", tmp_path / "file" / "deeper" / "a.wav"):
        with pytest.raises(OutputError, match="file is not a folder"):
            check_output(path, overwrite=False)
        with pytest.raises(OutputError, match="file is not a folder"):
            write_sound(path)


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    real_open, real_os_open = Path.open, os.open

    def refuse(path, mode="r", *rest, **options):  # a read-only folder: root may write to any other
        if "x" in mode:
            raise PermissionError(13, "Permission denied")
        return real_open(path, mode, *rest, **options)

    def refuse_flags(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(13, "Permission denied")
        return real_os_open(path, flags, *rest, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "open", refuse_flags)
    for write in (lambda path: check_output(path, overwrite=False), write_sound, write_text):
        with pytest.raises(OutputError, match=r"a\.wav cannot be written: Permission denied"):
            write(tmp_path / "deeper" / "a.wav")
    assert names_in(tmp_path) == []


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a file system that is read-only even for root"
)
def test_a_read_only_file_system():
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(Path("/proc/self/a.wav"), overwrite=False)
    with pytest.raises(OutputError, match="cannot be written"):
        write_sound(Path("/proc/self/new/a.wav"))


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_a_full_disk(tmp_path, ending):
    script = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from transform.audio import AudioFormat, write_audio; from transform.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "block = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 10_000)).astype(np.float32)\n"
        "fmt = AudioFormat(sample_rate=44_100, n_channels=1, subtype='PCM_16', is_lossy=False)\n"
        "try: write_audio(Path(sys.argv[1]), [block] * 5, fmt)\n"
        "except OutputError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / f"a{ending}")]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "could not be written to its end" in done.stdout or "cannot be written" in done.stdout
    assert names_in(tmp_path) == []
