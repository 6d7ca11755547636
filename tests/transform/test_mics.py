"""Microphones of one performance: cut, moved and written together, whatever their form; nothing is mended."""

import struct

import numpy as np
import pytest
import soundfile
import soxr
import torch

from tests.transform.conftest import HeardEverything, decaying_noise
from transform.audio import Recording
from transform.clusters import Clusters
from transform.engine import Redrummer
from transform.errors import AudioError, OutputError, SettingsError
from transform.events import DrumEvent, Rhythm
from transform.features import DrumFeatures, FeatureSettings
from transform.hits import Cutter
from transform.mic_files import MicFiles, write_mics
from transform.mics import MicRecording, check_together
from transform.settings import RenderSettings

RATE = 48_000
ONSETS_S = (0.5, 1.0, 1.5, 2.0)
DELAYS_MS = (0.0, 7.0, 18.0)
PLAYED_S = (0.25, 0.9375, 1.75)


def strokes(delay_ms=0.0, gain=1.0, rate=RATE, length_s=3.0, onsets_s=ONSETS_S):
    """Return snare-like bursts of noise, each another, as a microphone receives them, shape (T,)."""
    out = np.zeros(round(length_s * RATE), dtype=np.float32)
    for n, onset_s in enumerate(onsets_s):
        burst = decaying_noise(RATE, 0.2, 0.03, seed=n)
        burst[0] = 0.8
        at = round((onset_s + delay_ms / 1000) * RATE)
        out[at : at + len(burst)] += gain * burst
    return out if rate == RATE else soxr.resample(out, RATE, rate, quality="VHQ")


def opened(*sounds, rates=None, names="ABCDEFGH"):
    rates = rates or [RATE] * len(sounds)
    return [Recording.from_samples(x, rate, name) for x, rate, name in zip(sounds, rates, names, strict=False)]


def redrummed(microphones, onsets_s=ONSETS_S, **settings):
    """Return the take in which a kit whose strokes are known plays at PLAYED_S."""
    events = [DrumEvent(onset_s + 0.003, "SD", 0.9) for onset_s in onsets_s]
    rhythm = Rhythm(tuple(DrumEvent(t, "SD", 0.9) for t in PLAYED_S), 2.25, None, "made")
    redrummer = Redrummer(HeardEverything({microphones.name: events}))
    return redrummer.redrum(microphones, rhythm, RenderSettings(align="seconds", **settings))


def written(take, microphones, folder, **how):
    paths = [folder / f"{mic.name}.wav" for mic in microphones.microphones]
    write_mics(take, microphones, MicFiles(takes=paths), **how)
    return [soundfile.read(path, dtype="float32", always_2d=True)[0].T for path in paths]


def test_delays_between_microphones_stay_as_they_are_to_the_sample(tmp_path):
    group = MicRecording.of(opened(*(strokes(delay_ms) for delay_ms in DELAYS_MS)))
    results = written(redrummed(group), group, tmp_path, bit_depth="32f")
    for delay_ms, (result,) in zip(DELAYS_MS, results, strict=True):
        loud = np.flatnonzero(np.abs(result) > 0.2)
        begins = loud[np.diff(loud, prepend=-RATE) > 0.2 * RATE]
        assert begins.tolist() == [round((t + delay_ms / 1000) * RATE) for t in PLAYED_S]


def test_sum_of_the_results_is_the_result_of_the_sum(tmp_path):
    sounds = [strokes(delay_ms, gain) for delay_ms, gain in zip(DELAYS_MS, (1.0, 0.1, -0.6), strict=True)]
    group = MicRecording.of(opened(*sounds, np.sum(sounds, axis=0)))
    *parts, (whole,) = written(redrummed(group), group, tmp_path, bit_depth="32f")
    assert np.abs(whole).max() > 0.3
    assert np.abs(np.sum(parts, axis=0)[0] - whole).max() < 1e-6


def test_rates_may_differ_and_delays_stay(tmp_path):
    rates = [48_000, 44_100, 96_000]
    sounds = [strokes(delay_ms, rate=rate) for delay_ms, rate in zip(DELAYS_MS, rates, strict=True)]
    group = MicRecording.of(opened(*sounds, rates=rates))
    results = written(redrummed(group), group, tmp_path, bit_depth="32f")
    assert [len(result) for (result,) in results] == [round(2.25 * rate) for rate in rates]
    for played_s in PLAYED_S:
        places_s = []
        for sound, (result,), rate in zip(sounds, results, rates, strict=True):
            begin = round((played_s - 0.01) * rate)
            part = result[begin : round((played_s + 0.06) * rate)]
            places_s.append((int(np.argmax(np.correlate(sound, part, "valid"))) - begin) / rate)
        assert np.ptp(places_s) < 1 / 44_100  # all are cut from the same place


def test_each_file_has_its_own_form(tmp_path):
    stereo = np.stack((strokes(2), 0.5 * strokes(3)))
    for name, sound, rate, subtype in (
        ("KICK", strokes(), 48_000, "PCM_24"),
        ("OH", stereo, 48_000, "PCM_16"),
        ("ROOM", strokes(15, rate=44_100), 44_100, "FLOAT"),
    ):
        soundfile.write(tmp_path / f"{name}.wav", np.atleast_2d(sound).T, rate, subtype=subtype)
    group = MicRecording.of([Recording.open(tmp_path / f"{name}.wav") for name in ("KICK", "OH", "ROOM")])
    written(redrummed(group), group, tmp_path / "out")
    found = [soundfile.info(tmp_path / "out" / f"{name}.wav") for name in ("KICK", "OH", "ROOM")]
    assert [(f.samplerate, f.channels, f.subtype, f.frames) for f in found] == [
        (48_000, 1, "PCM_24", 108_000),
        (48_000, 2, "PCM_16", 108_000),
        (44_100, 1, "FLOAT", 99_225),
    ]


def test_all_files_or_none(tmp_path):
    group = MicRecording.of(opened(strokes(), strokes(5)))
    take = redrummed(group)
    (tmp_path / "B.wav").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"B\.wav exists already"):
        written(take, group, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["B.wav"]


def test_turned_polarity_cancels_nothing_and_stays_turned(tmp_path):
    group = MicRecording.of(opened(strokes(), -strokes()))
    assert "B is of opposite polarity to A: it is used as it is" in group.notes
    assert group.n_listened == 2
    results = written(redrummed(group), group, tmp_path, bit_depth="32f")
    assert np.abs(results[0]).max() > 0.3
    np.testing.assert_array_equal(results[0], -results[1])
    assert np.abs(group.mono(0, group.n_samples)).max() > 0.1


@pytest.mark.parametrize("delay", [0, 19, 40])
def test_a_turned_microphone_is_named_once_also_where_it_is_a_little_later(delay):
    late = np.roll(strokes(), delay)
    group = MicRecording.of(
        opened(
            strokes(),
            0.1 * late,
            -0.5 * late,
            strokes(7),
            strokes(rate=44_100, length_s=3.0),
            rates=[RATE] * 4 + [44_100],
        )
    )
    notes = [note for note in group.notes if "polarity" in note]
    assert notes == ["C is of opposite polarity to A, B and 1 more: it is used as it is"]


def test_power_spectra_are_added():
    listen = DrumFeatures(FeatureSettings())
    one = torch.from_numpy(strokes())[: 2**16]
    alone = listen(one[None])
    silent = listen(torch.stack((one, torch.zeros_like(one)))[None])
    torch.testing.assert_close(silent, alone)
    turned = listen(torch.stack((one, -one))[None])
    loud = alone[:, 0] > 0.4
    raised_db = 90 * (turned - alone)[:, 0][loud]
    torch.testing.assert_close(raised_db, torch.full_like(raised_db, 3.0103), atol=0.01, rtol=0)


def test_microphones_are_brought_to_one_level_and_back_exactly():
    sounds = [strokes(), 0.03 * strokes(3), 0.3 * strokes(9)]
    group = MicRecording.of(opened(*sounds))
    together = group.read(0, group.n_samples)
    levels_db = 20 * np.log10([np.sqrt(np.mean(x**2)) for x in together])
    assert np.ptp(levels_db) < 6.1
    np.testing.assert_array_equal(group.at_stored_level(together), np.stack(sounds))


@pytest.mark.parametrize("gain", [0.0, 1e-3])
def test_a_silent_microphone_is_not_transcribed_but_written(tmp_path, gain):
    group = MicRecording.of(opened(strokes(), strokes(4), gain * decaying_noise(RATE, 3.0, 1e9)))
    assert group.n_listened == 2
    assert any(note.startswith("C is ") and note.endswith("nothing is detected in it") for note in group.notes)
    results = written(redrummed(group), group, tmp_path, bit_depth="32f")
    assert len(results[2][0]) == len(results[0][0])
    assert np.abs(results[2]).max() <= 2 * gain


def test_a_voice_is_named_and_not_transcribed():
    time_s = np.arange(3 * RATE) / RATE
    voice = sum(np.sin(2 * np.pi * 220 * k * time_s) / k for k in range(1, 12)).astype(np.float32) * 0.2
    group = MicRecording.of(opened(strokes(), voice, names=["SNARE", "VOX"]))
    assert any("VOX hardly sounds like drums" in note for note in group.notes)
    assert group.n_listened == 1


def test_a_clipped_microphone_is_named_and_used_as_it_is(write_wav):
    path = write_wav("HOT.wav", np.clip(4 * strokes(), -1, 1), RATE)
    with Recording.open(path) as hot:
        group = MicRecording.of([hot, *opened(strokes(3))])
        assert any("HOT is clipped" in note for note in group.notes)
        take = redrummed(group)
        assert np.abs(group.at_stored_level(take.read(0, take.n_samples))[0]).max() > 0.99


def test_a_microphone_that_begins_later_is_read_where_it_begins():
    group = MicRecording.of(opened(np.ones(RATE), np.ones(RATE // 2)), offsets_s=[10.0, 10.25])
    sound = group.as_stored(0, group.n_samples)
    assert group.n_samples == RATE
    assert np.flatnonzero(sound[1])[[0, -1]].tolist() == [RATE // 4, 3 * RATE // 4 - 1]
    assert any("B begins 0.250 s after A" in note for note in group.notes)


def with_holes(sound, *holes_s):
    """Return a sound that is cut away between some times."""
    sound = sound.copy()
    for begin_s, end_s in holes_s:
        sound[round(begin_s * RATE) : round(end_s * RATE)] = 0
    return sound


@pytest.mark.parametrize("holes_s", [[(0, 3.2)], [(0.9, 4.8)], [(0, 2.2), (6.4, 9)], [(5.2, 9)]])
def test_hits_are_taken_from_where_all_microphones_run(tmp_path, holes_s):
    onsets_s = tuple(0.5 * n for n in range(1, 16))
    both = [strokes(delay_ms, length_s=9.0, onsets_s=onsets_s) for delay_ms in (0, 5)]
    group = MicRecording.of(opened(both[0], with_holes(both[1], *holes_s)))
    take = redrummed(group, onsets_s)
    results = written(take, group, tmp_path, bit_depth="32f")
    for played_s in PLAYED_S:
        at = round((played_s + 0.005) * RATE)
        assert np.abs(results[1][0, at - 2 : at + 100]).max() > 0.2
    assert "B does not run all the time: hits are taken from where all do" in take.notes()


def test_where_too_few_strokes_are_complete_all_are_used_and_it_is_said():
    onsets_s = [0.5 * n for n in range(1, 23)]
    both = [strokes(delay_ms, length_s=12.0, onsets_s=onsets_s) for delay_ms in (0, 5)]
    group = MicRecording.of(opened(both[0], with_holes(both[1], (5.7, 12))))
    events = [DrumEvent(onset_s, "SD" if n % 11 else "CY", 0.9) for n, onset_s in enumerate(onsets_s)]
    cutter = Cutter(group, events)
    assert {next(iter(own[0].classes)): len(own) for own in cutter.candidates()} == {
        "CY": 2,
        "SD": 9,
    }  # the last before it is cut off
    assert any("hits without it are taken, too: cymbal" in note for note in cutter.complete.notes())


def test_a_microphone_that_is_cut_to_its_own_strokes_takes_no_hits_from_the_others():
    onsets_s = tuple(0.5 * n for n in range(1, 16))
    own = strokes(5, length_s=9.0, onsets_s=onsets_s[3::4])
    group = MicRecording.of(opened(strokes(length_s=9.0, onsets_s=onsets_s), own, names=["KICK", "TOM"]))
    cutter = Cutter(group, [DrumEvent(onset_s, "KD", 0.9) for onset_s in onsets_s])
    assert [len(own) for own in cutter.candidates()] == [15]
    assert [*cutter.complete.notes()] == ["TOM is silent at many strokes: hits are taken from there, too"]


def test_what_repeats_is_solved_for_where_all_microphones_run():
    onsets_s = [0.5 * n for n in range(1, 16)]
    both = [strokes(delay_ms, length_s=9.0, onsets_s=onsets_s) for delay_ms in (0, 5)]
    group = MicRecording.of(opened(both[0], with_holes(both[1], (0.9, 2.8), (6.9, 9))))
    cutter = Cutter(group, [DrumEvent(onset_s, "SD", 0.9) for onset_s in onsets_s])
    assert [group[0].onset_s for group in cutter.groups[cutter.complete.longest_run()]] == onsets_s[5:12]


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_strokes_that_ring_out_are_no_holes(rate):
    onsets_s = [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]  # silence lies between all of them
    sounds = [strokes(delay_ms, rate=rate, length_s=12.0, onsets_s=onsets_s) for delay_ms in (0, 18)]
    group = MicRecording.of(opened(*sounds, rates=[rate, rate]))
    assert not group.lacking(0, group.n_samples)


def test_time_references_say_when_microphones_begin(write_wav):
    paths = []
    for name, reference in (("A.wav", 48_000 * 3600), ("B.wav", 48_000 * 3600 + 4_800)):
        path = write_wav(name, strokes(), RATE)
        content = bytes(338) + struct.pack("<Q", reference) + bytes(602 - 346)
        data = path.read_bytes() + b"bext" + struct.pack("<I", 602) + content
        path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
        paths.append(path)
    recordings = [Recording.open(path) for path in paths]
    assert [mic.begin for mic in MicRecording.of(recordings).microphones] == [0, 4_800]
    assert [m.begin for m in MicRecording.of(recordings, offsets_s=[0.0, 0.0]).microphones] == [0, 0]
    others = [*recordings, *opened(strokes(), names="C")]
    assert [mic.begin for mic in MicRecording.of(others).microphones] == [0, 0, 0]
    for offset_s, begins in ((0.5, [0, 4_800, 24_000]), (-0.5, [24_000, 28_800, 0])):
        placed = MicRecording.of(others, offsets_s=[None, None, offset_s])  # the others remain where they are
        assert [mic.begin for mic in placed.microphones] == begins


def test_microphones_of_different_times_are_refused():
    with pytest.raises(AudioError, match="A and B do not overlap in time"):
        MicRecording.of(opened(strokes(), strokes()), offsets_s=[0.0, 5.0])


@pytest.mark.parametrize("n_channels", [1, 2, 6, 24])
def test_any_number_of_microphones(tmp_path, n_channels):
    sounds = [strokes(delay_ms) for delay_ms in np.linspace(0, 18, n_channels)]
    names = [f"M{n}" for n in range(n_channels)]
    group = MicRecording.of(opened(*sounds, names=names))
    results = written(redrummed(group), group, tmp_path, bit_depth="32f")
    assert len(results) == n_channels
    assert all(np.abs(result).max() > 0.3 for result in results)


def test_too_many_channels_are_refused():
    with pytest.raises(AudioError, match="65 channels together"):
        MicRecording.of(opened(*[np.ones((13, 9))] * 5))


@pytest.mark.parametrize("settings", [{"engine": "latent"}, {"separate_outputs": True}])
def test_what_one_sound_alone_can_have_is_refused(settings):
    with pytest.raises(SettingsError):
        check_together(RenderSettings(**settings))


def test_listening_to_a_mix_transcribes_that():
    mix = Recording.from_samples(strokes(rate=44_100), 44_100, "MIX")
    group = MicRecording.of(opened(strokes(), strokes(4)), listen_to=mix)
    heard = group.read_listened(0, group.n_samples)
    assert heard.shape == (1, 3 * RATE)
    assert np.corrcoef(heard[0], strokes())[0, 1] > 0.9
    assert group.listened_peak == mix.mono_peak


def test_a_sound_that_repeats_is_solved_for_in_all_microphones_alike():
    onsets_s = [0.4 * n for n in range(1, 9)]
    bursts = [decaying_noise(RATE, 0.2, 0.03, seed=1), decaying_noise(RATE, 0.2, 0.03, seed=2)]
    sounds = np.zeros((3, 4 * RATE), dtype=np.float32)
    for onset_s in onsets_s:
        at = round(onset_s * RATE)
        sounds[0, at : at + len(bursts[0])] += bursts[0]
        sounds[1, at + 240 : at + 240 + len(bursts[1])] += 0.2 * bursts[1]
    sounds[2] = sounds[0] + sounds[1]
    group = MicRecording.of(opened(*sounds))
    events = [DrumEvent(onset_s, "SD", 0.9) for onset_s in onsets_s]
    clusters = Clusters.of_recording(group, events)
    stroke = clusters.stroke_of(events[2])
    assert stroke is not None
    assert abs(stroke.attack - round(onsets_s[2] * RATE)) <= 1  # where the first microphone has it
    begin = stroke.attack - 100
    one, two, both = group.at_stored_level(clusters.sound(stroke, begin, begin + RATE // 4))
    assert np.abs(both).max() > 0.3
    assert np.abs(one + two - both).max() < 1e-5


def test_microphones_of_one_rate_stay_whole_samples_apart_at_their_own_rate():
    sound = strokes(rate=44_100)
    late = 45  # samples of 44.1 kHz, no whole number at 48
    for begin in (0.0, 0.4, 0.5, 0.77):
        recordings = opened(strokes(), sound, np.pad(sound, (late, 0)), rates=[48_000, 44_100, 44_100])
        offsets_s = [0.0, (begin + late) / 44_100, begin / 44_100]
        group = MicRecording.of(recordings, offsets_s=offsets_s)
        _, one, other = group.as_stored(0, group.n_samples)
        assert np.abs(one).max() > 0.5
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "bpm"),
    [
        (("KICK", "OH 184", "ROOM 87"), None),
        (("KICK", "OH 184"), None),
        (("KICK 120bpm", "OH 120bpm", "ROOM 87 120bpm"), 120.0),
        (("KICK", "OH 120", "ROOM 120"), 120.0),
        (("KICK 96",), 96.0),
    ],
)
def test_the_number_of_a_microphone_is_no_tempo(names, bpm):
    recordings = opened(*(strokes() for _ in names), names=names)
    assert MicRecording.of(recordings).tempo_bpm() == (bpm and (bpm, "file name"))
