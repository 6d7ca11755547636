"""Edit mode on sounds whose stems are known, so that what must change, and what must not, is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tests.transform.conftest import HZ, HeardEverything, decaying_noise, tone_burst
from tests.transform.test_clusters import loop, snare
from transform.audio import Recording
from transform.edit import RecordingEditor, Stroke, Strokes
from transform.edited_stems import write_edited_stems
from transform.engine import Redrummer
from transform.errors import CheckpointError, OutputError, RhythmError
from transform.events import CLASSES, DrumEvent
from transform.headers import chunks
from transform.hits import LEAD_S
from transform.settings import RenderSettings

RATE = 44_100
LEAD = round(LEAD_S * RATE)
BEAT = [  # onset_s, class, level
    (0.1, "KD", 0.4),
    (0.1, "HH", 0.2),
    (0.35, "HH", 0.15),
    (0.6, "SD", 0.4),
    (0.6, "HH", 0.2),
    (0.85, "HH", 0.15),
    (0.85, "KD", 0.3),
    (1.1, "KD", 0.4),
    (1.1, "CY", 0.2),
    (1.6, "SD", 0.3),
    (1.6, "HH", 0.1),
]


class KnownStems:
    """A separator that knows the stems."""

    def __init__(self, stems):
        self._stems = stems

    def open(self, recording, activations):
        return self._stems


def editor_of(recording, stems, events, settings=None):
    redrummer = Redrummer(HeardEverything({recording.name: events}), KnownStems(stems))
    return RecordingEditor.open(recording, redrummer, settings)


@pytest.fixture
def beat(recorded, tmp_path):
    """Return a function that writes two seconds of a beat in a format, and opens its editor."""

    def make(sample_rate=RATE, n_channels=1, subtype="PCM_24", settings=None, strokes=BEAT, name="beat.wav"):
        def burst(hz, level):
            time_s = np.arange(round(0.2 * sample_rate)) / sample_rate
            return (level * np.cos(2 * np.pi * hz * time_s) * np.exp(-time_s / 0.03)).astype(np.float32)

        parts = [(t, c, burst(HZ[c], level)) for t, c, level in strokes]
        made, stems = recorded(parts, 2.0, sample_rate, n_channels, "beat")
        path = tmp_path / name
        soundfile.write(path, made.read(0, made.n_samples).T, sample_rate, subtype=subtype)
        events = [DrumEvent(t, c, 0.8, "closed" if c == "HH" else "") for t, c, _ in strokes]
        return editor_of(Recording.open(path), stems, events, settings)

    return make


def whole(edited):
    return edited.read(0, edited.n_samples)


def unedited(editor):
    return editor.edited(Strokes(editor.detected, editor.detected))


def with_played(editor, *changes, without=()):
    """Return the recording with strokes changed or added, by id, and some left out."""
    played = {stroke.id: stroke for stroke in editor.detected if stroke.id not in without}
    played |= {stroke.id: stroke for stroke in changes}
    return editor.edited(Strokes(editor.detected, tuple(played.values())))


def stroke_at(editor, onset_s, drum_class):
    return next(s for s in editor.detected if abs(s.onset_s - onset_s) < 0.004 and s.drum_class == drum_class)


def energy_at(sound, drum_class):
    """Return the energy of a sound (C, T) around the frequency of a class's bursts."""
    spectrum = np.abs(np.fft.rfft(sound[0] * np.hanning(sound.shape[1]))) ** 2
    hz = np.fft.rfftfreq(sound.shape[1], 1 / RATE)
    return spectrum[np.abs(hz - HZ[drum_class]) < 40].sum()


def pcm_bytes(path):
    """Return the samples of a WAV file as they are stored."""
    with path.open("rb") as file:
        for name, size, offset in chunks(file):
            if name == b"data":
                file.seek(offset)
                return file.read(size)
    raise AssertionError("no samples")


FORMATS = [
    (44_100, 1, "PCM_16"),
    (44_100, 2, "PCM_24"),
    (96_000, 2, "PCM_24"),
    (48_000, 2, "FLOAT"),
    (44_100, 6, "PCM_16"),
    (8_000, 1, "PCM_U8"),
]


@pytest.mark.parametrize(("sample_rate", "n_channels", "subtype"), FORMATS)
def test_without_an_edit_the_file_holds_the_bytes_of_the_source(
    beat, tmp_path, sample_rate, n_channels, subtype
):
    editor = beat(sample_rate, n_channels, subtype)
    edited = unedited(editor)
    assert edited.write(tmp_path / "out.wav") == (0, ())
    assert pcm_bytes(tmp_path / "out.wav") == pcm_bytes(editor.recording.path)
    assert edited.changed_from(unedited(editor)) == ()


@pytest.mark.parametrize(("sample_rate", "n_channels", "subtype"), FORMATS)
def test_after_an_edit_every_byte_outside_its_region_is_the_source(
    beat, tmp_path, sample_rate, n_channels, subtype
):
    editor = beat(sample_rate, n_channels, subtype)
    snare = stroke_at(editor, 0.6, "SD")
    edited = with_played(editor, replace(snare, onset_s=0.7))
    edited.write(tmp_path / "out.wav")
    # From 2 ms before it was struck to the next snare.
    begin, end = round((snare.onset_s - LEAD_S) * sample_rate), round(1.6 * sample_rate) + 5
    size = len(pcm_bytes(editor.recording.path)) // editor.recording.n_samples
    source, out = pcm_bytes(editor.recording.path), pcm_bytes(tmp_path / "out.wav")
    assert len(out) == len(source)
    assert out[: size * begin] == source[: size * begin]
    assert out[size * end :] == source[size * end :]
    assert out != source
    ((first, last),) = edited.changed_from(unedited(editor))
    assert begin - 1 <= first
    assert last <= end


def test_a_negative_zero_outside_the_region_stays_one(recorded):
    made, stems = recorded([(0.5, "SD", tone_burst(HZ["SD"], 0.4))], 2.0)
    samples = np.where(made.read(0, made.n_samples) == 0, np.float32(-0.0), made.read(0, made.n_samples))
    editor = editor_of(Recording.from_samples(samples, RATE, "zeros"), stems, [DrumEvent(0.5, "SD", 0.8)])
    out = whole(with_played(editor, without=["d0"]))
    assert out[:, : round(0.49 * RATE)].tobytes() == samples[:, : round(0.49 * RATE)].tobytes()


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_delete_and_undo_give_the_bytes_back(beat, tmp_path, n_channels):
    editor = beat(n_channels=n_channels)
    source = whole(unedited(editor))
    deleted = with_played(editor, without=["d3"])
    assert not np.array_equal(whole(deleted), source)
    undone = unedited(editor)
    assert whole(undone).tobytes() == source.tobytes()
    assert undone.changed_from(deleted) == deleted.changed_from(undone) != ()
    back = with_played(editor, replace(editor.detected[3]))
    assert back.changed_from(undone) == ()
    undone.write(tmp_path / "out.wav")
    assert pcm_bytes(tmp_path / "out.wav") == pcm_bytes(editor.recording.path)


@pytest.mark.parametrize(
    ("onset_s", "drum_class"), [(0.1, "KD"), (0.6, "SD"), (0.85, "HH"), (1.1, "CY"), (1.6, "SD")]
)
def test_a_deleted_stroke_is_gone_and_the_others_are_as_they_were(beat, onset_s, drum_class):
    editor = beat()
    stroke = stroke_at(editor, onset_s, drum_class)
    deleted = with_played(editor, without=[stroke.id])
    region = slice(round((onset_s - LEAD_S) * RATE), round((onset_s + 0.2) * RATE))
    before, after = (whole(x)[:, region] for x in (unedited(editor), deleted))
    assert energy_at(after, drum_class) < 1e-3 * energy_at(before, drum_class)  # 30 dB
    for other in {c for t, c, _ in BEAT if t == onset_s and c != drum_class}:
        assert abs(10 * math.log10(energy_at(after, other) / energy_at(before, other))) < 0.1


def test_strokes_deleted_one_after_the_other_leave_nothing_between_them(recorded):
    sounds = [(0.2 + 0.2 * i, "KD", tone_burst(HZ["KD"], 0.4, 1.0, 0.3)) for i in range(4)]
    made, stems = recorded(sounds, 2.0)
    editor = editor_of(made, stems, [DrumEvent(t, "KD", 0.8) for t, *_ in sounds])
    out = whole(with_played(editor, without=["d0", "d1", "d2", "d3"]))
    # What rings longer than the longest kick is none.
    assert np.abs(out[:, : round(1.7 * RATE)]).max() < 0.005


def test_what_rang_before_rings_on_and_never_louder_than_what_was_there(recorded):
    long, short = tone_burst(HZ["SD"], 0.4, 1.2, 0.3), tone_burst(HZ["SD"], 0.4)
    made, stems = recorded([(0.2, "SD", long), (0.5, "SD", short)], 2.0)
    editor = editor_of(made, stems, [DrumEvent(0.2, "SD", 0.8), DrumEvent(0.5, "SD", 0.8)])
    source, out = made.read(0, RATE * 2), whole(with_played(editor, without=["d1"]))

    def level(sound, at_s):
        return np.sqrt(np.mean(sound[:, round(at_s * RATE) : round((at_s + 0.02) * RATE)] ** 2))

    # It decays by 29 dB a second, and is not taken for less than 60.
    ideal = level(source, 0.47)
    assert 0.5 * ideal < level(out, 0.51) < ideal
    for at_s in np.arange(0.48, 0.9, 0.02):
        assert level(out, at_s) <= 1.2 * level(source, at_s) + 1e-6
    gone = whole(with_played(editor, without=["d0", "d1"]))
    assert level(gone, 0.51) < 0.01 * ideal


def test_a_moved_stroke_sounds_where_it_was_moved_to_and_there_alone(beat):
    editor = beat()
    snare = stroke_at(editor, 0.6, "SD")
    source, out = whole(unedited(editor)), whole(with_played(editor, replace(snare, onset_s=0.7)))
    at, to, n = (round(t * RATE) for t in (0.6, 0.7, 0.1))
    moved = out[0, to : to + n]
    snare_alone = tone_burst(HZ["SD"], 0.4)[:n]
    assert np.corrcoef(moved[:2000], snare_alone[:2000])[0, 1] > 0.99
    assert np.abs(moved).max() == pytest.approx(0.4, rel=0.05)
    assert energy_at(out[:, at : at + n], "SD") < 0.01 * energy_at(source[:, at : at + n], "SD")


@pytest.mark.parametrize(("onset_s", "drum_class"), [(0.1, "HH"), (0.6, "SD"), (0.85, "KD"), (1.1, "CY")])
def test_what_is_put_in_is_what_was_taken_out_to_the_sample(beat, onset_s, drum_class):
    editor = beat()
    stroke = stroke_at(editor, onset_s, drum_class)
    source = whole(unedited(editor))
    taken_out = source - whole(with_played(editor, without=[stroke.id]))
    moved = with_played(editor, replace(stroke, onset_s=stroke.onset_s + 0.03))
    put_in = whole(moved) - whole(with_played(editor, without=[stroke.id]))
    later, at, n = round(0.03 * RATE), round(stroke.onset_s * RATE), round(0.08 * RATE)
    np.testing.assert_allclose(
        put_in[:, at + later : at + later + n], taken_out[:, at : at + n], atol=0.02 * np.abs(taken_out).max()
    )


@pytest.mark.parametrize(("onset_s", "drum_class"), [(0.1, "HH"), (0.85, "KD"), (1.6, "SD")])
def test_a_copy_sounds_as_the_stroke_that_it_is_like_would_when_moved(beat, onset_s, drum_class):
    editor = beat()
    stroke = stroke_at(editor, onset_s, drum_class)
    softer = replace(stroke, onset_s=1.35, velocity=0.5 * stroke.velocity)
    copied = replace(softer, id="copy", like=stroke.id)
    moved, cut = with_played(editor, softer), with_played(editor, copied, without=[stroke.id])
    np.testing.assert_array_equal(whole(cut), whole(moved))
    np.testing.assert_array_equal(cut.hit("copy"), moved.hit(stroke.id))
    # Pasted where it was, it is the recording again; the kit would play the middle of its strokes.
    in_place = replace(stroke, id="copy", like=stroke.id)
    source, out = whole(unedited(editor)), whole(with_played(editor, in_place, without=[stroke.id]))
    assert np.abs(out - source).max() < 0.02 * np.abs(source).max()
    # As another drum, or where the stroke is none by now, it is one that is drawn.
    for none in (replace(copied, drum_class="TT", articulation=""), replace(copied, like="gone")):
        as_drawn = with_played(editor, replace(none, like=""))
        np.testing.assert_array_equal(whole(with_played(editor, none)), whole(as_drawn))


def test_a_stroke_in_another_stem_than_its_classs_is_taken_out_and_put_in_whole(recorded):
    tom, bass = tone_burst(HZ["TT"], 0.4), tone_burst(HZ["KD"], 0.3)
    crash = tone_burst(HZ["CY"], 0.1, 1.2, 0.5)
    parts = [(0.2, "CY", crash), (0.5, "TT", tom), (0.9, "KD", bass)]
    made, stems = recorded(parts, 1.5)
    events = [DrumEvent(0.2, "CY", 0.8), DrumEvent(0.5, "SD", 0.8), DrumEvent(0.9, "KD", 0.8)]
    editor = editor_of(made, stems, events)
    source, deleted = whole(unedited(editor)), whole(with_played(editor, without=["d1"]))
    region, there = (slice(round(t * RATE), round((t + 0.15) * RATE)) for t in (0.5, 0.7))
    assert energy_at(deleted[:, region], "TT") < 1e-3 * energy_at(source[:, region], "TT")
    assert energy_at(deleted[:, region], "CY") == pytest.approx(energy_at(source[:, region], "CY"), rel=0.02)
    moved = whole(with_played(editor, replace(editor.detected[1], onset_s=0.7)))
    assert energy_at(moved[:, region], "TT") < 1e-3 * energy_at(source[:, region], "TT")
    assert energy_at(moved[:, there], "TT") == pytest.approx(energy_at(source[:, region], "TT"), rel=0.05)
    assert energy_at(moved[:, there], "CY") == pytest.approx(energy_at(source[:, there], "CY"), rel=0.05)


def test_a_stroke_that_the_next_cuts_at_once_is_put_in_as_short_as_it_was(recorded):
    # The "cymbal" is the beginning of a swell in the kick's stem.
    swell = np.linspace(0, 1, round(0.034 * RATE), dtype=np.float32) * tone_burst(HZ["KD"], 0.1)[:1499]
    made, stems = recorded([(0.5, "KD", swell), (0.534, "KD", tone_burst(HZ["KD"], 0.5))], 2.0)
    editor = editor_of(made, stems, [DrumEvent(0.5, "CY", 0.6), DrumEvent(0.534, "KD", 0.9)])
    edited = with_played(editor, replace(editor.detected[0], onset_s=1.2))
    added = whole(edited)[:, round(1.19 * RATE) :]
    assert 0.01 < np.abs(added[:, : round(0.05 * RATE)]).max() < 0.12
    assert np.abs(added[:, round(0.05 * RATE) :]).max() < 1e-3
    assert edited.notes == ()  # it plays itself: nothing stands in


def test_a_tom_that_rings_on_is_cut_by_a_snare_in_its_stem(recorded):
    parts = [(0.2, "TT", tone_burst(HZ["TT"], 0.4, 1.2, 0.3)), (0.6, "TT", tone_burst(HZ["TT"], 0.4))]
    made, stems = recorded(parts, 1.5)
    editor = editor_of(made, stems, [DrumEvent(0.2, "TT", 0.8), DrumEvent(0.6, "SD", 0.8)])
    source, deleted = whole(unedited(editor)), whole(with_played(editor, without=["d0"]))
    kept = slice(round(0.6 * RATE), round(0.75 * RATE))
    np.testing.assert_array_equal(deleted[:, kept], source[:, kept])
    assert np.abs(deleted[:, : round(0.59 * RATE)]).max() < 0.005


def test_what_the_end_cuts_off_ends_softly(recorded):
    made, stems = recorded([(0.2, "CY", decaying_noise(RATE, 0.4, 1.5))], 2.0)
    editor = editor_of(made, stems, [DrumEvent(0.2, "CY", 0.8)])
    out = whole(with_played(editor, Stroke("n", "CY", 1.9, 0.8), without=["d0"]))
    assert np.abs(out[:, round(1.95 * RATE) :][:, :1000]).max() > 0.1
    assert np.abs(out[:, -3:]).max() < 0.01


@pytest.mark.parametrize("velocity", [0.2, 0.4, 1.0])
def test_a_velocity_is_a_gain_of_the_strokes_own_sound(beat, velocity):
    editor = beat()
    kick = stroke_at(editor, 1.1, "KD")
    out = whole(with_played(editor, replace(kick, velocity=velocity)))
    region = slice(round(1.1 * RATE), round(1.3 * RATE))
    energies = [energy_at(sound[:, region], "KD") for sound in (out, whole(unedited(editor)))]
    expected_db = 20 * 1.6 * math.log10(velocity / kick.velocity)
    assert 10 * math.log10(energies[0] / energies[1]) == pytest.approx(expected_db, abs=0.2)
    rings = [energy_at(sound[:, region], "CY") for sound in (out, whole(unedited(editor)))]
    assert 10 * math.log10(rings[0] / rings[1]) == pytest.approx(0, abs=0.1)


def test_a_stroke_made_much_louder_is_played_by_a_louder_hit(recorded):
    sounds = [(0.2, "SD", tone_burst(HZ["SD"], 0.01)), (0.7, "SD", tone_burst(HZ["SD"], 0.5))]
    made, stems = recorded(sounds, 1.5)
    editor = editor_of(made, stems, [DrumEvent(0.2, "SD", 0.08), DrumEvent(0.7, "SD", 0.9)])
    ghost, strong = editor.detected
    out = whole(with_played(editor, replace(ghost, velocity=strong.velocity)))
    first, second = (np.abs(out[:, round(t * RATE) : round((t + 0.1) * RATE)]).max() for t in (0.2, 0.7))
    assert first == pytest.approx(second, rel=0.1)


@pytest.mark.parametrize("drum_class", ["KD", "SD", "HH"])
def test_an_added_stroke_is_as_loud_as_the_sources_of_its_velocity(beat, drum_class):
    editor = beat()
    own = [s for s in editor.detected if s.drum_class == drum_class]
    strong = max(own, key=lambda s: s.velocity)
    edited = with_played(editor, Stroke("new", drum_class, 1.4, strong.velocity, strong.articulation))
    source, out = whole(unedited(editor)), whole(edited)
    begin = round(strong.onset_s * RATE)
    there = slice(round(1.4 * RATE), round(1.5 * RATE))
    levels = (
        energy_at(source[:, begin : begin + round(0.1 * RATE)], drum_class),
        energy_at(out[:, there] - source[:, there], drum_class),
    )
    assert abs(10 * math.log10(levels[1] / levels[0])) < 1.0
    assert edited.notes == ()
    np.testing.assert_array_equal(out[:, : round(1.4 * RATE) - LEAD], source[:, : round(1.4 * RATE) - LEAD])


def test_a_drawn_stroke_is_as_loud_as_its_velocity_though_louder_drums_fall_on_others(beat):
    kicks = [(t, "KD", 0.2) for t in (0.1, 0.4, 0.7, 1.0, 1.3)]
    editor = beat(strokes=sorted([*kicks, (0.4, "TT", 0.8), (1.0, "TT", 0.8)]))
    first = stroke_at(editor, 0.1, "KD")
    out = whole(with_played(editor, Stroke("new", "KD", 1.6, first.velocity)))
    own, drawn = (energy_at(out[:, round(t * RATE) : round((t + 0.15) * RATE)], "KD") for t in (0.1, 1.6))
    assert abs(10 * math.log10(drawn / own)) < 1.0


def test_repeated_strokes_take_turns_and_an_edit_changes_nothing_far_from_it(beat):
    editor = beat()
    added = [Stroke(f"n{i}", "HH", 0.05 + 0.06 * i, 0.7, "closed") for i in range(30)]
    all_of_them = with_played(editor, *added)
    without_first = with_played(editor, *added[1:])
    ((start, stop),) = without_first.changed_from(all_of_them)
    assert (start, stop) == (round(0.05 * RATE) - LEAD, round(0.1 * RATE))  # where the next hat is
    differs = (whole(all_of_them) != whole(without_first)).any(axis=0)
    assert differs[start:stop].any()
    assert not differs[:start].any()
    assert not differs[stop:].any()
    sounds = {all_of_them.hit(stroke.id).tobytes() for stroke in added}
    assert len(sounds) > 1


def test_corrections_never_change_the_sound_by_themselves(beat):
    editor = beat()
    source = whole(unedited(editor))
    first = editor.detected[0]
    for detected in (
        editor.detected[1:],
        (replace(first, drum_class="TT", articulation=""), *editor.detected[1:]),
        (replace(first, onset_s=0.12), *editor.detected[1:]),
        (*editor.detected, Stroke("mine", "TT", 1.5, 0.5)),
        (),
    ):
        edited = editor.edited(Strokes(detected, detected))
        assert whole(edited).tobytes() == source.tobytes()
        assert edited.changed_from(unedited(editor)) == ()


def test_a_relabelled_stroke_is_taken_out_of_the_stem_that_it_is_in(beat):
    editor = beat()
    kick = stroke_at(editor, 1.1, "KD")
    others = tuple(s for s in editor.detected if s is not kick)
    detected = (*others, replace(kick, drum_class="TT"))
    out = whole(editor.edited(Strokes(detected, others)))
    region = slice(round(1.1 * RATE), round(1.3 * RATE))
    source = whole(unedited(editor))
    assert energy_at(out[:, region], "KD") < 1e-3 * energy_at(source[:, region], "KD")
    assert energy_at(out[:, region], "CY") == pytest.approx(energy_at(source[:, region], "CY"), rel=0.02)


def test_a_stroke_that_was_missed_can_be_taken_out_once_it_is_added(recorded):
    made, stems = recorded([(0.2, "KD", tone_burst(100, 0.4)), (0.7, "KD", tone_burst(100, 0.4))], 1.5)
    editor = editor_of(made, stems, [DrumEvent(0.2, "KD", 0.8)])
    missed = Stroke("mine", "KD", 0.7, 0.8)
    out = whole(editor.edited(Strokes((*editor.detected, missed), editor.detected)))
    assert np.abs(out[:, round(0.6 * RATE) :]).max() < 0.01
    assert np.abs(out[:, : round(0.3 * RATE)]).max() > 0.3


def blurred(recording):
    """Return stems in which every class has a fifth of everything: nothing is separated."""

    class Blurred:
        def read(self, start, stop, classes=CLASSES):
            return np.stack([recording.read(start, stop) / 5 for _ in classes])

    return Blurred()


def test_what_a_recording_repeats_is_taken_out_whatever_its_stems_hold():
    recording, events, _ = loop()
    editor = editor_of(recording, blurred(recording), events)
    source, shot = whole(unedited(editor)), snare(RATE)[:8_000]
    depths_db = []
    for stroke in [s for s in editor.detected if s.drum_class == "SD"][:-1]:
        taken_out = source - whole(with_played(editor, without=[stroke.id]))
        around = round(stroke.onset_s * RATE) + np.arange(-200, 200)
        parts = np.lib.stride_tricks.sliding_window_view(taken_out[0], len(shot))[around]
        gains = parts @ shot / (shot @ shot)
        left = np.square(parts - gains[:, None] * shot).sum(axis=1) / (gains**2 * (shot @ shot))
        depths_db.append(-10 * math.log10(left.min()))
    assert np.mean(depths_db) > 20


def test_what_is_edited_while_all_is_prepared_sounds_as_it_does_afterwards(beat):
    editor, later = beat(), beat()
    first, *others = editor.detected
    added = Stroke("new", "SD", 1.35, 0.7)
    stages, sounds = set(), []

    def edit(stage, fraction):
        stages.add(stage)
        if fraction == 0:
            return  # the kit is not being cut yet: an edit would cut all of it
        moved = replace(first, onset_s=0.2)
        sounds.append(whole(editor.edited(Strokes(editor.detected, (moved, *others, added)))))

    editor.prepare(progress=edit)
    assert stages == {"separate", "cut kit"}
    assert len(sounds) > 3
    later.prepare()
    expected = whole(later.edited(Strokes(later.detected, (replace(first, onset_s=0.2), *others, added))))
    for sound in sounds:
        np.testing.assert_array_equal(sound, expected)


def test_drums_that_never_repeat_are_taken_out_by_their_stems():
    recording, events, _ = loop(differs=True)
    editor = editor_of(recording, blurred(recording), events)
    stroke = next(s for s in editor.detected if s.drum_class == "SD")
    source, out = whole(unedited(editor)), whole(with_played(editor, without=[stroke.id]))
    at = round(stroke.onset_s * RATE)
    np.testing.assert_allclose(out[:, at : at + 2_000], 0.8 * source[:, at : at + 2_000], atol=0.02)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_nothing_clips_and_what_was_turned_down_is_said(beat, tmp_path, subtype):
    strokes = [(0.2, "KD", 0.9), (1.0, "SD", 0.9)]
    editor = beat(subtype=subtype, strokes=strokes)
    snare = stroke_at(editor, 1.0, "SD")
    edited = with_played(editor, Stroke("n", "SD", 0.2, snare.velocity))
    source, out = whole(unedited(editor)), whole(edited)
    assert 0.95 < np.abs(out).max() <= 1.0
    assert [note for note in edited.notes if "1 stroke is turned down, by up to 3.00 dB" in note]
    assert [note for note in edited.notes if "limited" in note]
    ((first, last),) = edited.changed_from(unedited(editor))
    np.testing.assert_array_equal(out[:, :first], source[:, :first])
    np.testing.assert_array_equal(out[:, last:], source[:, last:])
    edited.write(tmp_path / "out.wav")
    stored, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    np.testing.assert_allclose(stored, out[0], atol=2**-15)
    # The limiter is quick: around the peak the kick and the snare sound on.
    assert np.abs(out[0, round(0.25 * RATE) :][:2000]).max() > 0.1


def test_in_floating_point_nothing_is_turned_down(beat, tmp_path):
    editor = beat(subtype="FLOAT", strokes=[(0.2, "KD", 0.9), (1.0, "SD", 0.9)])
    snare = stroke_at(editor, 1.0, "SD")
    edited = with_played(editor, Stroke("n", "SD", 0.2, snare.velocity))
    assert np.abs(whole(edited)).max() > 1.5
    assert edited.notes == ()
    written = edited.write(tmp_path / "out.wav", bit_depth="16")
    assert any("turned down" in note for note in written.notes)
    assert np.abs(soundfile.read(tmp_path / "out.wav")[0]).max() <= 1.0


@pytest.mark.parametrize(("subtype", "is_rounded"), [("PCM_32", True), ("DOUBLE", True), ("FLOAT", False)])
def test_what_is_finer_than_single_precision_is_said_to_be_rounded(beat, tmp_path, subtype, is_rounded):
    written = unedited(beat(subtype=subtype)).write(tmp_path / "out.wav")
    assert [note for note in written.notes if "rounded to 24" in note] or not is_rounded
    assert is_rounded or written.notes == ()


def test_blocks_are_the_whole(beat):
    editor = beat(strokes=[(0.2, "KD", 0.9), (1.0, "SD", 0.9)])
    snare = stroke_at(editor, 1.0, "SD")
    edited = with_played(editor, Stroke("n", "SD", 0.21, snare.velocity), replace(snare, onset_s=1.2))
    blocks = [edited.read(start, start + 777) for start in range(0, edited.n_samples, 777)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1)[:, : edited.n_samples], whole(edited))
    assert np.abs(edited.read(-100, 0)).max() == 0
    assert np.abs(edited.read(edited.n_samples, edited.n_samples + 9)).max() == 0


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["move", "set", "delete", "add", "relabel"]),
        st.integers(0, 10),
        st.floats(0, 1.99, allow_subnormal=False),
        st.floats(0.05, 1.0),
        st.sampled_from(CLASSES),
    ),
    max_size=12,
)


def test_any_edits_undone_are_the_source_and_each_changes_its_regions_alone(beat):
    editor = beat(strokes=[(t, c, 2 * level) for t, c, level in BEAT])  # so that peaks are met

    def after(edits):
        played = {stroke.id: stroke for stroke in editor.detected}
        for number, (op, k, onset_s, velocity, drum_class) in enumerate(edits):
            own = played.get(f"d{k}")
            if op == "add":
                played[f"n{number}"] = Stroke(f"n{number}", drum_class, onset_s, velocity)
            elif own is not None and op == "delete":
                del played[own.id]
            elif own is not None:
                changed = {
                    "move": {"onset_s": onset_s},
                    "set": {"velocity": velocity},
                    "relabel": {"drum_class": drum_class, "articulation": ""},
                }[op]
                played[own.id] = replace(own, **changed)
        return editor.edited(Strokes(editor.detected, tuple(played.values())))

    source = whole(unedited(editor))

    @given(EDITS, EDITS)
    def check(edits, more):
        first, second = after(edits), after([*edits, *more])
        a, b = whole(first), whole(second)
        differs = (a != b).any(axis=0)
        for start, stop in second.changed_from(first):
            assert 0 <= start < stop <= len(differs)
            differs[start:stop] = False
        assert not differs.any()
        assert np.abs(b).max() <= 1.0
        assert whole(unedited(editor)).tobytes() == source.tobytes()

    check()


def test_the_sound_of_each_stroke_can_be_auditioned(beat):
    editor = beat()
    snare, kick = stroke_at(editor, 0.6, "SD"), stroke_at(editor, 1.1, "KD")
    edited = with_played(
        editor, replace(kick, velocity=kick.velocity / 2), Stroke("n", "SD", 1.3, 0.5), without=[snare.id]
    )
    assert np.abs(edited.hit(snare.id)).max() == pytest.approx(0.4, rel=0.1)
    assert np.abs(edited.hit(kick.id)).max() == pytest.approx(0.4 * 0.5**1.6, rel=0.1)
    assert np.abs(edited.hit("n")).max() > 0.05
    with pytest.raises(RhythmError, match="no stroke 'x'"):
        edited.hit("x")


# What is not as usual


def test_a_stroke_that_nothing_can_play_is_said(recorded):
    made, stems = recorded([], 1.0)
    editor = editor_of(made, stems, [])
    edited = with_played(editor, Stroke("n", "SD", 0.5, 0.8))
    assert np.abs(whole(edited)).max() == 0
    assert edited.notes == ("there is nothing in the source that could play the snare drum",)
    with pytest.raises(RhythmError, match="nothing in the source"):
        edited.hit("n")


def test_a_source_without_drums_plays_borrowed_ones(recorded):
    made, stems = recorded([], 1.0)
    editor = editor_of(made, stems, [], RenderSettings(missing="borrow"))
    edited = with_played(editor, Stroke("n", "SD", 0.5, 0.8))
    assert np.abs(whole(edited)[:, : round(0.49 * RATE)]).max() == 0
    assert np.abs(whole(edited)[:, round(0.5 * RATE) :]).max() > 0.001
    assert [note for note in edited.notes if "borrowed" in note]


def test_strokes_detected_in_silence_can_be_edited(recorded):
    made, stems = recorded([], 2.0)
    editor = editor_of(made, stems, [DrumEvent(0.5, "SD", 0.8), DrumEvent(1.0, "SD", 0.8)])
    edited = with_played(editor, replace(editor.detected[0], onset_s=0.7), without=["d1"])
    assert np.abs(whole(edited)).max() == 0
    assert edited.notes == ("there is nothing in the source that could play the snare drum",)
    assert np.abs(edited.hit("d1")).max() == 0


@pytest.mark.parametrize(
    ("missing", "note"),
    [
        ("nearest", "the source has no tom: its snare drum plays that part"),
        ("leave-out", "the source has no tom: that part is left out"),
        ("borrow", "the source has no tom: one borrowed from"),
    ],
)
def test_a_class_that_the_source_lacks_is_played_as_the_settings_say(beat, missing, note):
    editor = beat(settings=RenderSettings(missing=missing))
    edited = with_played(editor, Stroke("n", "TT", 1.4, 0.8))
    assert len(edited.notes) == 1
    assert note in edited.notes[0]
    there = slice(round(1.4 * RATE), round(1.5 * RATE))
    changed = np.abs(whole(edited)[:, there] - whole(unedited(editor))[:, there]).max()
    assert (changed > 0.01) == (missing != "leave-out")


def test_other_settings_play_another_kit_and_what_was_there_stays(beat, write_wav, tmp_path):
    editor = beat()
    stroke = Stroke("new", "TT", 1.35, 0.7)
    first = with_played(editor, stroke)
    without = editor.with_settings(RenderSettings(missing="leave-out"))
    left_out = with_played(without, stroke)
    start, stop = round(1.34 * RATE), round(1.45 * RATE)
    np.testing.assert_array_equal(left_out.read(start, stop), editor.recording.read(start, stop))
    assert np.abs(first.read(start, stop) - left_out.read(start, stop)).max() > 0.01
    (changed,) = left_out.changed_from(first)
    assert changed[0] <= round(1.35 * RATE) < changed[1]
    toms = np.concatenate((np.zeros(RATE // 2, np.float32), tone_burst(HZ["TT"], 0.3)))
    path = write_wav("toms.wav", toms[None], RATE, "PCM_24")
    heard = editor._redrummer.transcriber.events_by_name
    heard["toms"] = [DrumEvent(0.5, "TT", 0.8)]
    more = editor.with_settings(RenderSettings(kit_from=(str(path),)))
    with_more = with_played(more, stroke)
    played = with_more.read(start, stop) - editor.recording.read(start, stop)
    assert energy_at(played, "TT") > 20 * energy_at(played, "KD")  # not the kick that stood in for it
    assert any("1 more hit is from toms" in note for note in with_more.notes)
    heard["toms"] = []  # it is not transcribed again, whatever is corrected
    corrected = tuple(replace(s, velocity=s.velocity / 2) for s in editor.detected)
    assert more.replayed([stroke], detected=corrected).hit("new").any()
    np.testing.assert_array_equal(whole(first), whole(with_played(editor, stroke)))


@pytest.mark.parametrize(("subtype", "mode"), [("PCM_24", "edit"), ("PCM_16", "edit"), ("PCM_24", "replay")])
def test_the_stems_of_a_result_add_up_to_it_and_each_has_its_lane(beat, tmp_path, subtype, mode):
    editor = beat(n_channels=2, subtype=subtype)
    snare = stroke_at(editor, 0.6, "SD")
    if mode == "edit":
        edited = with_played(editor, Stroke("new", "TT", 1.35, 0.7), without=(snare.id,))
    else:
        played = tuple(s for s in editor.detected if s != snare)
        edited = editor.with_settings(RenderSettings(separate_outputs=True)).replayed(played)
    paths = {c: tmp_path / f"{c}.wav" for c in CLASSES}
    write_edited_stems(edited, paths)
    edited.write(tmp_path / "whole.wav")
    stems = {c: soundfile.read(path, dtype="int32", always_2d=True)[0] for c, path in paths.items()}
    expected, rate = soundfile.read(tmp_path / "whole.wav", dtype="int32", always_2d=True)
    assert rate == RATE
    np.testing.assert_array_equal(sum(stems.values()), expected)
    assert {soundfile.info(path).subtype for path in paths.values()} == {subtype}
    around = slice(round(0.61 * RATE), round(0.7 * RATE))
    later = slice(round(1.61 * RATE), round(1.7 * RATE))
    deleted, stays = (np.square(stems["SD"][place] / 2**31).sum() for place in (around, later))
    assert deleted < 1e-3 * stays
    hats = np.square(stems["HH"][around] / 2**31).sum()  # the hat that fell together with it plays on
    assert hats > 0.1 * stays
    if mode == "edit":
        tom = np.square(stems["TT"][round(1.35 * RATE) : round(1.45 * RATE)] / 2**31).sum()
        assert tom > 0.01 * stays


def test_an_articulation_that_the_source_lacks_is_said(beat):
    edited = with_played(beat(), Stroke("n", "HH", 1.4, 0.8, "open"))
    assert edited.notes == ("the source has no open hat: its closed hat plays that part",)


def test_strokes_at_the_very_edges_are_edited(beat):
    editor = beat(strokes=[(0.0, "KD", 0.4), (1.995, "SD", 0.4)])
    for without in (["d0"], ["d1"], ["d0", "d1"]):
        assert whole(with_played(editor, without=without)).shape == (1, 2 * RATE)
    moved = with_played(editor, replace(editor.detected[0], onset_s=1.9999), Stroke("n", "KD", 5.0, 0.5))
    assert np.isfinite(whole(moved)).all()
    at_the_end = with_played(
        editor, Stroke("n", "KD", math.nextafter(2.0, 0), 0.5)
    )  # as what is quantised to it
    assert at_the_end.is_untouched


def test_two_strokes_of_one_id_are_refused(beat):
    editor = beat()
    with pytest.raises(RhythmError, match="two strokes"):
        editor.edited(Strokes(editor.detected, (*editor.detected, editor.detected[0])))


def test_a_preset_without_a_separator_is_refused(click_source):
    path, redrummer = click_source()
    with pytest.raises(CheckpointError, match="no separator"):
        RecordingEditor.open(Recording.open(path), redrummer)


def test_nothing_is_overwritten_unasked(beat, tmp_path):
    (tmp_path / "out.wav").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        unedited(beat()).write(tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"mine"


def test_an_hour_is_edited_by_reading_what_is_touched(recorded):
    made, stems = recorded([(0.5, "SD", decaying_noise(RATE, 0.4, 0.05))], 2.0)
    n_samples = 3600 * RATE
    n_read = []

    class Hour:
        sample_rate, n_channels = RATE, 1

        def __init__(self, counts=False):
            self.n_samples, self.counts = n_samples, counts

        def read(self, start, stop, classes=None):
            if self.counts:
                n_read.append(stop - start)
            source = made if classes is None else stems
            out = source.read(start % (2 * RATE), start % (2 * RATE) + stop - start, *filter(None, [classes]))
            return out

    recording = Recording.of_signal(Hour(), made.format, "hour")
    events = [DrumEvent(0.5 + 2 * i, "SD", 0.8) for i in range(1800)]
    editor = editor_of(recording, Hour(counts=True), events)
    first = unedited(editor)
    edited = with_played(editor, without=["d900"])
    assert not n_read  # nothing is separated before it is read
    ((start, stop),) = edited.changed_from(first)
    assert start == pytest.approx(round(1800.5 * RATE) - LEAD, abs=2)
    assert np.abs(edited.read(start, stop)).max() < 0.01
    assert sum(n_read) < 10 * RATE


# Replays


def test_a_replay_is_the_engines_take(beat):
    editor = beat(subtype="PCM_16")
    strokes = [Stroke(f"r{i}", c, 0.1 + 0.2 * i, 0.7) for i, c in enumerate(["KD", "HH", "SD", "KD", "SD"])]
    replay = editor.replayed(strokes, 1.5)
    assert replay.notes == ()  # of a tempo nothing is decided: each stroke has its time
    assert replay.n_samples == round(1.5 * RATE)
    for stroke in strokes:
        at = round(stroke.onset_s * RATE)
        assert energy_at(replay.read(at, at + 4000), stroke.drum_class) > 1
    assert replay.changed_from(editor.replayed(strokes, 1.5)) == ()
    longer = editor.replayed([*strokes, Stroke("late", "CY", 1.3, 0.7)], 1.5)
    ((start, stop),) = longer.changed_from(replay)
    assert round(1.29 * RATE) < start < stop
    np.testing.assert_array_equal(longer.read(0, start), replay.read(0, start))
    assert np.abs(longer.hit("late")).max() > 0.01
    assert longer.changed_from(unedited(editor)) == ((0, editor.recording.n_samples),)


def test_a_replay_of_nothing_or_by_nothing_is_silent(recorded, beat, tmp_path):
    empty = beat().replayed([])
    assert np.abs(whole(empty)).max() == 0
    empty.write(tmp_path / "silent.wav")
    assert soundfile.info(tmp_path / "silent.wav").frames == 2 * RATE
    made, stems = recorded([], 1.0)
    nobody = editor_of(made, stems, []).replayed([Stroke("r", "KD", 0.1, 0.5)])
    assert np.abs(whole(nobody)).max() == 0
    assert nobody.notes == ("there is nothing in the source that could play the kick drum",)
