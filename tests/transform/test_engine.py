import hashlib

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, rhythm_of
from transform.audio import Recording
from transform.engine import Redrummer
from transform.errors import AudioError, CheckpointError, RhythmError, SettingsError
from transform.events import CLASSES, DrumEvent, Rhythm
from transform.settings import RenderSettings
from transform.toms import fundamental_hz


@pytest.mark.parametrize("sample_rate", [44_100, 48_000, 96_000])
def test_clicks_land_within_a_sample_of_the_rhythm(click_source, sample_rate, tmp_path):
    path, redrummer = click_source(sample_rate)
    onsets = [0.1001, 0.33337, 0.9, 1.777]
    take = redrummer.redrum(Recording.open(path), rhythm_of(*onsets))
    take.write(tmp_path / "out.wav")
    out, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == sample_rate
    assert len(out) == 2 * sample_rate
    for onset_s in onsets:
        near = out[round((onset_s - 0.02) * rate) : round((onset_s + 0.02) * rate)]
        loudest = int(np.argmax(np.abs(near))) + round((onset_s - 0.02) * rate)
        assert abs(loudest - onset_s * rate) <= 1


def test_channels_keep_their_balance(click_source):
    path, redrummer = click_source(n_channels=2)
    take = redrummer.redrum(Recording.open(path), rhythm_of(0.5))
    left, right = np.abs(take.read(0, take.n_samples)).max(axis=1)
    assert right / left == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize(("length", "expected_s"), [("source", 3.0), ("rhythm", 2.0), (0.7, 0.7), (5.25, 5.25)])
def test_the_take_is_exactly_as_long_as_asked_and_loops(click_source, length, expected_s):
    path, redrummer = click_source()
    take = redrummer.redrum(Recording.open(path), rhythm_of(0.5, 1.5), RenderSettings(length=length))
    assert take.n_samples == round(expected_s * 44_100)
    expected = [t for t in (0.5, 1.5, 2.5, 3.5, 4.5) if t < expected_s]
    assert [e.onset_s for e in take.rhythm.events] == pytest.approx(expected)


def test_start_begins_within_the_rhythm(click_source):
    path, redrummer = click_source()
    settings = RenderSettings(start_s=1.0, length=2.0)
    take = redrummer.redrum(Recording.open(path), rhythm_of(0.5, 1.5), settings)
    assert [e.onset_s for e in take.rhythm.events] == pytest.approx([0.5, 1.5])


def test_beats_follow_the_source_tempo(click_source):
    path, redrummer = click_source(name="loop_60bpm.wav")
    take = redrummer.redrum(Recording.open(path), rhythm_of(0.5, 1.5, bpm=120))
    assert [e.onset_s for e in take.rhythm.events] == pytest.approx([1.0, 3.0])
    assert take.notes()[0] == "plays at 60 BPM, the source's; the rhythm's own is 120"
    take = redrummer.redrum(Recording.open(path), rhythm_of(0.5, 1.5, bpm=120), RenderSettings(align="seconds"))
    assert [e.onset_s for e in take.rhythm.events] == pytest.approx([0.5, 1.5])


def test_beats_without_a_tempo_are_a_usage_error(click_source):
    path, redrummer = click_source()
    with pytest.raises(SettingsError, match="tempo"):
        redrummer.redrum(Recording.open(path), rhythm_of(0.5), RenderSettings(align="beats"))


def test_an_audio_rhythm_is_played_at_its_own_attacks(click_source, clicks):
    path, redrummer = click_source()
    target = Recording.from_samples(clicks([0.2, 0.9], length_s=1.5), 44_100, name="target")
    redrummer.transcriber.events_by_name["target"] = [DrumEvent(0.205, "SD", 0.8), DrumEvent(0.894, "SD", 0.8)]
    take = redrummer.redrum(Recording.open(path), target)
    assert [e.onset_s for e in take.rhythm.events] == pytest.approx([0.2, 0.9], abs=1 / 44_100)
    assert take.duration_s == pytest.approx(1.5)


def test_the_tempo_of_a_recorded_rhythm_is_said(click_source, clicks):
    path, redrummer = click_source()
    onsets = np.arange(0.0, 7.9, 0.5)
    target = Recording.from_samples(clicks(onsets, length_s=8.0), 44_100, name="target 118bpm")
    redrummer.transcriber.events_by_name[target.name] = [DrumEvent(float(t), "KD", 0.8) for t in onsets]

    def notes(**settings):
        return redrummer.redrum(Recording.open(path), target, RenderSettings(**settings)).notes()

    assert "the rhythm's tempo is 118 BPM (file name)" in notes()
    assert any("rhythm's tempo is estimated at 120 BPM, confidence" in n for n in notes(rhythm_bpm="auto"))
    assert not any("rhythm's tempo is" in n for n in notes(rhythm_bpm=90.0))


def test_the_same_seed_gives_the_same_bytes(click_source, tmp_path):
    path, redrummer = click_source()
    digests = []
    for name in ("a.wav", "b.wav"):
        take = redrummer.redrum(
            Recording.open(path), rhythm_of(*np.arange(0.1, 1.9, 0.1)), RenderSettings(seed=5)
        )
        take.write(tmp_path / name)
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_a_source_without_drums_is_said(write_wav):
    path = write_wav("silent.wav", np.zeros(44_100))
    with pytest.raises(AudioError, match="no drum hits are detected in silent"):
        Redrummer(HeardEverything({})).redrum(Recording.open(path), rhythm_of(0.5))


def test_a_rhythm_without_drums_is_said(click_source):
    path, redrummer = click_source()
    silent = Recording.from_samples(np.zeros(44_100), 44_100, name="pad")
    with pytest.raises(RhythmError, match="no drum hits are detected in pad"):
        redrummer.redrum(Recording.open(path), silent)
    with pytest.raises(RhythmError, match="no drum hits in the"):
        redrummer.redrum(Recording.open(path), rhythm_of(1.5), RenderSettings(length=1.0))


RATE = 44_100


class Separated:
    """Stands in for the separator where a test knows the stems."""

    def __init__(self, stems):
        self.stems = stems

    def open(self, recording, activations):
        return self.stems


def burst(hz, tau_s, length_s=1.0):
    time_s = np.arange(round(length_s * RATE)) / RATE
    return (0.3 * np.cos(2 * np.pi * hz * time_s) * np.exp(-time_s / tau_s)).astype(np.float32)


@pytest.fixture
def layered(recorded):
    """Return a stereo source of kicks and hats that always sound together, its stems, and a redrummer."""
    strokes = [(t, c, burst(hz, 0.05)) for t in (0.5, 1.25) for c, hz in (("KD", 70), ("HH", 11_000))]
    strokes += [(2.25, "SD", burst(300, 0.05))]
    source, stems = recorded(strokes, 3.0, n_channels=2)
    heard = [DrumEvent(t, c, 0.8) for t, c, _ in strokes]
    return source, stems.stems, Redrummer(HeardEverything({"source": heard}), Separated(stems))


def whole(take):
    return take.read(0, take.n_samples)


def high_energy_db(sound):
    power = np.abs(np.fft.rfft(sound)) ** 2
    return 10 * np.log10(power[:, np.fft.rfftfreq(sound.shape[1], 1 / RATE) > 8000].sum())


def test_a_kick_without_its_hat_can_be_played_with_a_separator(layered):
    source, _, redrummer = layered
    kicks = rhythm_of(0.2, 0.7, 1.2, drum_class="KD")
    apart = whole(redrummer.redrum(source, kicks))
    slices = whole(Redrummer(redrummer.transcriber).redrum(source, kicks))
    assert high_energy_db(apart) < high_energy_db(slices) - 20
    assert np.abs(apart).max() == pytest.approx(0.3, rel=0.3)


def test_only_some_classes_are_redrummed_and_the_other_stems_play_on(layered):
    source, stems, redrummer = layered
    rhythm = rhythm_of(0.1, 0.9, 1.7, drum_class="KD")
    settings = RenderSettings(classes=("KD", "TT"), length="source")
    take = redrummer.redrum(source, rhythm, settings)
    alone = redrummer.redrum(source, rhythm, RenderSettings(length="source"))
    kept = stems[[CLASSES.index(c) for c in ("SD", "HH", "CY")]].sum(axis=0)
    np.testing.assert_allclose(whole(take), whole(alone) + kept, atol=1e-6)
    assert "the source's own snare drum and hi-hat play on" in take.notes()
    assert "made has no tom here: nothing plays that part" in take.notes()
    assert take.gain_db() == 0


def test_kept_stems_alone_where_the_rhythm_has_nothing_for_the_classes(layered):
    source, stems, redrummer = layered
    take = redrummer.redrum(
        source, rhythm_of(0.5, drum_class="HH"), RenderSettings(classes=("SD",), length=4.0)
    )
    own = np.delete(stems, CLASSES.index("SD"), axis=0).sum(axis=0)
    np.testing.assert_allclose(whole(take)[:, : 3 * RATE], own, atol=1e-6)
    np.testing.assert_allclose(whole(take)[:, 3 * RATE + 500 : -500], own[:, 500 : RATE - 500], atol=1e-6)
    assert any("no snare drum" in note for note in take.notes())


def test_all_classes_by_name_are_as_no_classes(layered):
    source, _, redrummer = layered
    rhythm = rhythm_of(0.1, 0.9, drum_class="KD")
    named = redrummer.redrum(source, rhythm, RenderSettings(classes=CLASSES))
    np.testing.assert_array_equal(whole(named), whole(redrummer.redrum(source, rhythm)))


def test_a_gain_acts_on_its_class_alone_redrummed_or_kept(layered):
    source, stems, redrummer = layered
    events = (DrumEvent(0.3, "KD", 1.0), DrumEvent(0.3, "HH", 1.0))
    rhythm = Rhythm(events, 2.0, None, "made")
    # With differing gains the two are never played as the one hit that they were.
    loud, soft = (whole(redrummer.redrum(source, rhythm, RenderSettings(gain_db={"HH": g}))) for g in (-4, -24))
    loud, soft = (np.abs(np.fft.rfft(sound))[0] for sound in (loud, soft))  # 0.5 Hz a bin
    assert soft[22_000] == pytest.approx(0.1 * loud[22_000], rel=0.02)
    assert soft[140] == pytest.approx(loud[140], rel=1e-3)
    settings = RenderSettings(classes=("SD",), gain_db={"HH": -20}, length="source")
    kept = whole(redrummer.redrum(source, rhythm_of(0.5, drum_class="TT"), settings))
    np.testing.assert_allclose(kept, stems[0] + 0.1 * stems[3] + stems[4] + stems[2], atol=1e-6)


def test_mix_is_the_share_of_what_is_redrummed_and_kept_and_the_rest_is_the_original(layered):
    source, _, redrummer = layered
    rhythm = rhythm_of(0.1, drum_class="KD")

    def take(mix):
        return whole(
            redrummer.redrum(source, rhythm, RenderSettings(classes=("KD",), length="source", mix=mix))
        )

    original, redrummed = source.read(0, source.n_samples), take(1.0)
    assert np.abs(original - redrummed).max() > 0.1
    for mix in (0.0, 0.2, 0.5, 0.9):
        np.testing.assert_allclose(take(mix), mix * redrummed + (1 - mix) * original, atol=1e-6)


@pytest.mark.parametrize("length_s", [2.0, 1.0, 1.996, 4.0, 5.0, 7.3])  # the source's is 2; a fade is .005
def test_a_loop_with_retained_stems_has_no_seam(recorded, length_s):
    time_s = np.arange(2 * RATE) / RATE
    hum = (0.2 * np.cos(2 * np.pi * 500 * time_s)).astype(np.float32)  # whole periods: as a loop it never ends
    strokes = [(0.0, "CY", hum), (0.5, "KD", burst(70, 0.05))]
    source, stems = recorded(strokes, 2.0)
    heard = [DrumEvent(0.5, "KD", 0.8)]
    redrummer = Redrummer(HeardEverything({"source": heard}), Separated(stems))
    settings = RenderSettings(classes=("KD",), length=length_s, tail="wrap")
    rhythm = rhythm_of(length_s - 0.05, length_s=length_s, drum_class="KD")
    take = whole(redrummer.redrum(source, rhythm, settings))[0]
    loop, end = np.tile(take, 2), len(take)
    assert end == round(length_s * RATE)
    for seam in (*range(2 * RATE, end, 2 * RATE), end):  # of each round, and of the loop
        jump = np.abs(np.diff(loop, 2)[seam - 50 : seam + 50])
        assert jump.max() < 1.1 * np.abs(np.diff(hum, 2)).max() + 1e-3
        assert np.square(loop[seam - 200 : seam + 200]).mean() > 0.8 * np.square(hum).mean()
    rung = take[: RATE // 20] - hum[: RATE // 20]
    assert np.abs(rung).max() > 0.05  # the kick rings on at the beginning


@pytest.mark.parametrize(
    ("source_s", "bpm", "period_s"),
    [(2.0, None, 2.0), (2.1, 120.0, 2.0), (1.9, 120.0, 2.0), (1.7, 120.0, 1.7), (1.9, None, 1.9)],
)
@pytest.mark.parametrize("tail", ["cut", "wrap", "ring"])
def test_retained_drums_begin_again_with_the_beats_where_the_take_is_longer(
    recorded, source_s, bpm, period_s, tail
):
    source, stems = recorded([(0.25, "SD", burst(300, 0.05)), (1.0, "KD", burst(70, 0.05))], source_s)
    heard = [DrumEvent(0.25, "SD", 0.8), DrumEvent(1.0, "KD", 0.8)]
    redrummer = Redrummer(HeardEverything({"source": heard}), Separated(stems))
    rhythm = rhythm_of(0.9, 5.6, length_s=6.0, bpm=bpm, drum_class="KD")
    settings = RenderSettings(classes=("KD",), align="seconds", tail=tail)
    take = redrummer.redrum(source, rhythm, settings)
    found = [event.onset_s for event in take.played_rhythm().events if event.drum_class == "SD"]
    expected = [number * period_s + 0.25 for number in range(4) if number * period_s + 0.25 < 6]
    assert found == pytest.approx(expected, abs=0.01)
    sound = whole(take)[0]
    for onset_s in expected:
        at = round(onset_s * RATE)
        length = min(RATE // 10, 6 * RATE - at - 500)
        own = stems.read(0, source.n_samples)[CLASSES.index("SD"), 0, RATE // 4 :]
        np.testing.assert_allclose(sound[at : at + length], own[:length], atol=1e-3)
    assert np.abs(sound[round(6.1 * RATE) :]).max(initial=0) < 1e-3  # no round begins where hits ring on
    assert any(f"begin again every {period_s:.3f} s" in note for note in take.notes())


def test_a_take_that_is_hardly_longer_begins_no_round(recorded):
    source, stems = recorded([(0.0, "SD", burst(300, 0.05)), (1.0, "KD", burst(70, 0.05))], 1.95)
    redrummer = Redrummer(HeardEverything({"source": [DrumEvent(1.0, "KD", 0.8)]}), Separated(stems))
    take = redrummer.redrum(
        source, rhythm_of(1.0, length_s=2.0, drum_class="KD"), RenderSettings(classes=("KD",), mix=0.5)
    )
    assert not whole(take)[0, round(1.96 * RATE) :].any()
    assert "the original in the mix ends after 1.950 s" in take.notes()


def test_some_classes_without_a_separator_are_refused(layered):
    source, _, redrummer = layered
    with pytest.raises(CheckpointError, match="no separator") as caught:
        Redrummer(redrummer.transcriber).redrum(source, rhythm_of(0.5), RenderSettings(classes=("KD",)))
    assert "presets list" in caught.value.hint


def test_a_redrummer_takes_recordings_apart(layered):
    source, stems, redrummer = layered
    assert np.array_equal(redrummer.separate(source).read(0, source.n_samples), stems)
    with pytest.raises(CheckpointError, match="no separator"):
        Redrummer(redrummer.transcriber).separate(source)


def test_a_recording_of_notes_is_said_to_be_hardly_drums():
    time_s = np.arange(4 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 277, 330, 440)) * (
        0.5 + 0.4 * np.cos(6 * time_s)
    )
    source = Recording.from_samples(0.1 * chord, RATE, "song")
    redrummer = Redrummer(HeardEverything({"song": [DrumEvent(1.0, "SD", 0.8)]}))
    take = redrummer.redrum(source, rhythm_of(0.5))
    assert any(note.startswith("drum confidence in song is low") for note in take.notes())


def test_a_recording_of_drums_is_not_doubted(layered):
    source, _, redrummer = layered
    assert not any("confidence" in note for note in redrummer.redrum(source, rhythm_of(0.5)).notes())


def test_a_single_tom_is_tuned_when_asked(recorded):
    recording, _ = recorded([(0.5, "TT", burst(120, 0.2)), (1.5, "KD", burst(60, 0.1))], 2.5)
    heard = [DrumEvent(0.5, "TT", 0.8), DrumEvent(1.5, "KD", 0.8)]
    redrummer = Redrummer(HeardEverything({recording.name: heard}))
    fill = tuple(DrumEvent(0.6 * i, "TT", 0.8, height) for i, height in enumerate(("high", "mid", "floor")))

    def pitches(**settings):
        take = whole(redrummer.redrum(recording, Rhythm(fill, 2.0), RenderSettings(**settings)))[0]
        cut = [take[round(event.onset_s * RATE) :][: RATE // 2] for event in fill]
        return [fundamental_hz(part, RATE) / 120 for part in cut]

    assert pitches() == pytest.approx([1, 1, 1], abs=0.01)
    assert pitches(tune_toms=True) == pytest.approx([2 ** (3 / 12), 1, 2 ** (-3 / 12)], abs=0.01)
