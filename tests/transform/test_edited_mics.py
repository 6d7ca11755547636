"""Microphones of one performance, edited as one: whatever their form, with delays to the sample."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, decaying_noise
from tests.transform.test_mics import ONSETS_S, RATE, opened, strokes
from transform.audio import Recording
from transform.edit import RecordingEditor, Strokes
from transform.edited_mics import write_edited_mics
from transform.engine import Redrummer
from transform.errors import OutputError, SettingsError
from transform.events import CLASSES, DrumEvent
from transform.mics import MicRecording
from transform.settings import RenderSettings

DELAYS = (0, 336, 864)  # samples: up to 18 ms
GAINS = (1.0, 0.6, -1.0)  # the second, raised while it is edited, is above full scale then
REST = round(0.25 * RATE)  # after which a burst is silent


class AllSnare:
    """A separator in whose recordings everything is snare."""

    def open(self, recording, activations):
        self._recording = recording
        return self

    def read(self, start, stop, classes=CLASSES):
        sound = self._recording.read(start, stop)
        return np.stack([sound if c == "SD" else np.zeros_like(sound) for c in classes])


def editor_of(microphones, settings=None):
    events = [DrumEvent(onset_s, "SD", 0.9) for onset_s in ONSETS_S]
    redrummer = Redrummer(HeardEverything({microphones.name: events}), AllSnare())
    return RecordingEditor.open(microphones, redrummer, settings)


def with_played(editor, played):
    return editor.edited(Strokes(editor.detected, tuple(played)))


def written(edited, microphones, folder, **how):
    paths = [folder / f"{mic.name}.wav" for mic in microphones.microphones]
    write_edited_mics(edited, microphones, paths, **how)
    return [soundfile.read(path, dtype="float32", always_2d=True)[0].T for path in paths]


@pytest.fixture
def performance(write_wav):
    """Return one performance in three files of 24 bits, each later than the one before, and of other levels."""
    paths = [
        write_wav(f"{name}.wav", strokes(1000 * delay / RATE, gain), RATE, subtype="PCM_24")
        for name, delay, gain in zip("ABC", DELAYS, GAINS, strict=True)
    ]
    recordings = [Recording.open(path) for path in paths]
    yield MicRecording.of(recordings)
    for recording in recordings:
        recording.close()


def test_what_nobody_touched_is_every_microphone_sample_for_sample(write_wav, tmp_path):
    late = round(0.25 * RATE)
    stereo = np.stack((strokes(2), 0.5 * strokes(3)))
    forms = {
        "KICK": (strokes(), RATE, "PCM_24", 0.0),
        "OH": (stereo, RATE, "PCM_16", late / RATE),
        "ROOM": (0.03 * strokes(15, rate=44_100), 44_100, "FLOAT", 0.1),
    }
    paths = [write_wav(f"{name}.wav", *form[:2], subtype=form[2]) for name, form in forms.items()]
    group = MicRecording.of([Recording.open(path) for path in paths], offsets_s=[f[3] for f in forms.values()])
    editor = editor_of(group)
    (tmp_path / "out").mkdir()
    written(with_played(editor, editor.detected), group, tmp_path / "out")
    for path, begin, n_samples in zip(paths, (0, late, 4410), (156_000, 156_000, 143_325), strict=True):
        (before, rate), form = soundfile.read(path, dtype="int32"), soundfile.info(path).subtype
        out = tmp_path / "out" / path.name
        after, _ = soundfile.read(out, dtype="int32")
        found = soundfile.info(out)
        assert (found.samplerate, found.subtype, found.frames) == (rate, form, n_samples)
        if form == "FLOAT":
            before, after = (soundfile.read(p, dtype="float32")[0] for p in (path, out))
        np.testing.assert_array_equal(after[begin : begin + len(before)], before)
        assert not after[:begin].any()
        assert not after[begin + len(before) :].any()


def test_a_stroke_that_is_moved_is_moved_in_every_microphone_and_the_rest_stays_bit_by_bit(
    performance, tmp_path
):
    editor = editor_of(performance)
    played = list(editor.detected)
    assert len(played) == len(ONSETS_S)
    to, moved = round(0.75 * RATE), replace(played[3], onset_s=played[3].onset_s - 1.25)
    (tmp_path / "out").mkdir()
    results = written(with_played(editor, [*played[:3], moved]), performance, tmp_path / "out")
    burst = decaying_noise(RATE, 0.2, 0.03, seed=3)
    burst[0] = 0.8
    for mic, (result,), delay, gain in zip(performance.microphones, results, DELAYS, GAINS, strict=True):
        was, now = 2 * RATE + delay, to + delay
        before = mic.recording.read(0, len(result))[0]
        np.testing.assert_allclose(result[now : now + 4000], gain * burst[:4000], atol=2e-3 * abs(gain))
        assert np.abs(result[was : was + REST]).max() < 2e-3 * abs(gain)
        untouched = np.ones(len(result), dtype=bool)
        for begin in (2 * RATE, to):
            untouched[begin - 2000 : begin + RATE // 3] = False
        np.testing.assert_array_equal(result[untouched], before[untouched])


def test_all_files_or_none(performance, tmp_path):
    editor = editor_of(performance)
    out = tmp_path / "out"
    out.mkdir()
    (out / "B.wav").write_bytes(b"mine")
    edited = with_played(editor, editor.detected[1:])
    with pytest.raises(OutputError, match=r"B\.wav exists already"):
        written(edited, performance, out)
    assert [path.name for path in out.iterdir()] == ["B.wav"]
    written(edited, performance, out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["A.wav", "B.wav", "C.wav"]


def test_a_replay_is_of_all_microphones_and_no_engine_generates_them(performance, tmp_path):
    editor = editor_of(performance)
    first = replace(editor.detected[0], onset_s=0.5)
    (tmp_path / "out").mkdir()
    results = written(editor.replayed([first], 1.0), performance, tmp_path / "out")
    for (result,), delay, gain in zip(results, DELAYS, GAINS, strict=True):
        assert len(result) == RATE
        loud = np.flatnonzero(np.abs(result) > 0.4 * 0.8 * abs(gain))
        assert abs(int(loud[0]) - (RATE // 2 + delay)) <= 1
    with pytest.raises(SettingsError, match="the latent engine generates one sound"):
        editor.with_settings(RenderSettings(engine="latent")).replayed([first], 1.0)


def test_what_is_played_of_microphones_is_their_sum():
    left_right = np.stack((np.full(RATE, 0.2), np.full(RATE, 0.1)))
    quiet = MicRecording.of(opened(np.full(RATE, 0.25), left_right, np.full(RATE, -0.125)))
    sound = quiet.monitored(quiet.read(100, 200))
    np.testing.assert_allclose(sound[0], 0.25 + 0.2 + 0.125, atol=1e-6)  # turned, so that it adds
    np.testing.assert_allclose(sound[1], 0.25 + 0.1 + 0.125, atol=1e-6)
    loud = MicRecording.of(opened(np.full(RATE, 0.8), np.full(RATE, 0.7)))
    np.testing.assert_allclose(loud.monitored(loud.read(0, 100)), 1.0, atol=1e-6)
