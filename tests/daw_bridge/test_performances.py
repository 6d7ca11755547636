"""Items of a track that follow one another are one performance, in every host. Drums are clicks here."""

import difflib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from daw_bridge.bars import Bars
from daw_bridge.cutting import cut_at_items
from daw_bridge.items import open_item
from daw_bridge.performances import joined, performances
from daw_bridge.reaper.facts import stretched
from daw_bridge.session import Fade, FinishedTake, Item
from daw_bridge.takes import Order, dry_reports, redrum_session
from tests.daw_bridge.click_transcriber import ClickTranscriber
from tests.daw_bridge.conftest import RppWorld
from transform.engine import Redrummer
from transform.errors import AudioError, DawError, SettingsError
from transform.events import DrumEvent, Rhythm, TempoMap
from transform.settings import RenderSettings

RATE = 44_100
IN_A_DAW = RenderSettings(length="source")
REAPER = ["rpp", "reaper", "action"]
HOSTS = [*REAPER, "live", "als"]


@pytest.fixture(params=HOSTS)
def world(request, worlds):
    def make(*tracks, **more):
        return worlds(request.param, list(tracks), **more)

    make.track, make.audio, make.midi = worlds.track, worlds.audio, worlds.midi
    return make


in_reaper = pytest.mark.parametrize("world", REAPER, indirect=True)
in_closed = pytest.mark.parametrize("world", ["rpp", "als"], indirect=True)


def attacks_s(path):
    """Return where clicks begin in a file."""
    sound, rate = soundfile.read(path, always_2d=True)
    loud = np.flatnonzero(np.abs(sound).max(axis=1) > 0.2)
    return loud[np.diff(loud, prepend=-(10**9)) > 0.03 * rate] / rate


def run(world, redrummer, settings=IN_A_DAW, **order):
    return redrum_session(world.session(), redrummer, Order(settings=settings, **order))


def kicks(onsets_s, length_s, bpm=120.0):
    return Rhythm(tuple(DrumEvent(at, "KD", 0.9) for at in onsets_s), length_s, TempoMap.constant(bpm), "kicks")


# A bar of 120 BPM that nothing falls into the borders of.
PATTERN = kicks([0.0, 0.35, 0.8, 1.625], 2.0)
STEP = [(4.0, 90.0, False)]
TEMPO = TempoMap(((0.0, 120.0), (8.0, 90.0)))


def expected_s(begin_s, end_s, first_beat=0.0):
    """Return when the pattern, looped from a beat on, plays from one time to another, from the first."""
    beats = [first_beat + 4 * turn + 2 * at for turn in range(-2, 40) for at in (0.0, 0.35, 0.8, 1.625)]
    times = (TEMPO.seconds_at(beat) for beat in beats)
    return [at_s - begin_s for at_s in times if begin_s - 1e-9 <= at_s < end_s - 1e-9]


@pytest.fixture
def beats(write_wav, clicks):
    return write_wav("beats.wav", clicks([0.02 + 0.5 * n for n in range(16)], length_s=8.0))


def test_slices_of_a_track_are_one_take_in_which_the_rhythm_runs_on(world, beats, redrummer):
    """Ten slices of the recording in another order, with a gap of a beat and one of half a beat."""
    order = [3, 0, 7, 5, 5, 1, 2, 14, 9, 4]
    begins = [0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 3.5, 4.0, 4.5, 5.25]
    slices = [
        world.audio(beats, begin, 0.5, start_offset_s=0.5 * place)
        for place, begin in zip(order, begins, strict=True)
    ]
    made = world(world.track("drums", *slices), points=STEP)
    (report,) = run(made, redrummer, rhythm=PATTERN)
    assert report["items"] == 10
    assert soundfile.info(report["output"]).frames == round(5.75 * RATE)
    errors = attacks_s(report["output"]) - expected_s(0.0, 5.75)
    assert np.abs(errors).max() <= 1.5 / RATE
    if isinstance(made, RppWorld):  # of the project nothing but new lines
        before, after = (path.read_bytes().splitlines() for path in (made.path, made.output))
        new = {tag[0] for tag in difflib.ndiff(*([repr(line) for line in lines] for lines in (before, after)))}
        assert new == {" ", "+"}
    assert not any("no hits" in note for note in report["notes"])


def test_what_cannot_be_played_is_named_and_the_rest_is_one_take(world, beats, redrummer, write_wav, tmp_path):
    silence = write_wav("silence.wav", np.zeros((1, RATE), np.float32))
    packed = tmp_path / "old.rx2"
    packed.write_bytes(b"CAT " + bytes(60))
    items = [
        world.audio(beats, 0.0, 1.0),
        world.audio(tmp_path / "gone.wav", 1.0, 0.5),
        world.audio(beats, 1.5, 0.51, start_offset_s=2.0),  # overlaps the next
        world.audio(silence, 2.0, 0.5),
        world.audio(beats, 2.25, 0.25, is_muted=True),
        world.audio(packed, 2.5, 0.5),
        world.audio(beats, 3.0, 1.0, start_offset_s=4.0),
    ]
    made = world(world.track("drums", *items))
    reports = run(made, redrummer, rhythm=PATTERN)
    outcomes = {
        round(report["position_s"], 2): report.get("error") or report.get("skipped") or report["items"]
        for report in reports
    }
    assert list(outcomes) == [0.0, 2.5, 1.0, 2.25]
    assert outcomes[0.0] == 5
    assert "gone.wav is missing" in outcomes[1.0]
    assert outcomes[2.25] == "it is muted"
    assert "old.rx2 at 2.50 s on drums: old.rx2 is not a sound file" in outcomes[2.5]
    assert "no hits are detected in 1 of its 5 items: silence.wav at 2.00 s" in reports[0]["notes"]
    assert attacks_s(reports[0]["output"]) == pytest.approx(expected_s(0.0, 4.0), abs=1.5 / RATE)


def test_a_slice_that_is_broken_in_the_middle_is_left_out(world, beats, redrummer, write_wav, tmp_path):
    broken = np.zeros((1, RATE), np.float32)
    broken[0, RATE // 4] = np.nan
    items = [
        world.audio(beats, 0.0, 1.0),
        world.audio(write_wav("broken.wav", broken, subtype="FLOAT"), 1.0, 0.5),
        world.audio(beats, 1.5, 0.5, start_offset_s=2.0),
        world.audio(tmp_path / "gone.wav", 2.0, 0.5),
        world.audio(beats, 2.5, 1.5, start_offset_s=3.5),
    ]
    take, *others = run(world(world.track("drums", *items)), redrummer, rhythm=PATTERN)
    assert (take["position_s"], take["items"]) == (0.0, 4)
    assert attacks_s(take["output"]) == pytest.approx(expected_s(0.0, 4.0), abs=1.5 / RATE)
    assert [(report["position_s"], "output" in report) for report in others] == [(1.0, False), (2.0, False)]
    assert "broken.wav holds a value that is not a number (NaN or infinite) at 0.250 s" in others[0]["error"]


def test_a_track_of_which_all_is_broken_fails_once(world, redrummer, write_wav):
    broken = write_wav("broken.wav", np.full((1, RATE), np.nan, np.float32), subtype="FLOAT")
    items = [world.audio(broken, 0.5 * n, 0.5) for n in range(3)]
    (report,) = run(world(world.track("drums", *items)), redrummer, rhythm=PATTERN)
    assert "broken.wav holds a value that is not a number" in report["error"]


def test_items_apart_are_takes_of_their_own(world, beats, redrummer):
    items = [world.audio(beats, at, 0.5, start_offset_s=at) for at in (0.0, 0.5, 2.0, 2.5, 3.51)]
    reports = run(
        world(world.track("drums", *items), world.track("tom", world.audio(beats, 3.0))),
        redrummer,
        rhythm=PATTERN,
    )
    assert [(report["position_s"], report.get("items")) for report in reports] == [
        *((0.0, 2), (2.0, 2), (3.51, None), (3.0, None))
    ]


def test_a_take_may_be_cut_where_the_items_begin(world, beats, redrummer):
    items = [world.audio(beats, at, 0.6, start_offset_s=at) for at in (0.1003, 0.5, 1.3)]
    made = world(world.track("drums", *items))
    (report,) = run(made, redrummer, rhythm=PATTERN, per_item=True)
    sounds = [soundfile.read(path, dtype="int32", always_2d=True)[0] for path in report["outputs"]]
    starts = [round((at - 0.1003) * RATE) for at in (0.1003, 0.5, 1.3)]
    ends = [starts[1], round((1.1 - 0.1003) * RATE), round((1.9 - 0.1003) * RATE)]
    assert [len(sound) for sound in sounds] == [end - start for start, end in zip(starts, ends, strict=True)]
    whole = run(world(world.track("drums", *items)), redrummer, rhythm=PATTERN)[0]["output"]
    whole = soundfile.read(whole, dtype="int32", always_2d=True)[0]
    for sound, start, end in zip(sounds, starts, ends, strict=True):
        assert (sound == whole[start:end]).all()


@pytest.mark.parametrize("world", [*REAPER, "live"], indirect=True)
def test_cut_takes_lie_where_the_items_do(world, beats, redrummer):
    items = [world.audio(beats, at, 0.5, start_offset_s=at) for at in (0.0, 0.5, 1.0)]
    made = world(world.track("drums", *items), world.track("bass"))
    run(made, redrummer, rhythm=PATTERN, per_item=True)
    after = made.tracks_after()
    assert [track["name"] for track in after] == ["drums", "drums redrum", "bass"]
    assert [item["position_s"] for item in after[1]["items"]] == pytest.approx([0.0, 0.5, 1.0], abs=1 / RATE)
    assert made.is_untouched()


def test_all_rhythm_items_beside_a_performance_play(world, beats, redrummer):
    items = [world.audio(beats, at, 1.0, start_offset_s=at) for at in (0.0, 1.0, 2.0)]
    rhythm = [world.midi([(0.5, 36, 100, 9)], at, 1.0, midi_beats=2.0) for at in (0.0, 2.0)]
    made = world(world.track("drums", *items), world.track("rhythm", *rhythm))
    (report,) = run(made, redrummer)
    assert attacks_s(report["output"]) == pytest.approx([0.25, 2.25], abs=1.5 / RATE)


def test_other_performances_of_a_track_lend_their_hits_if_requested(world, beats, redrummer, write_wav, clicks):
    more = write_wav("more.wav", clicks([0.2, 0.7], length_s=1.0))
    items = [world.audio(beats, at, 0.5, start_offset_s=at) for at in (0.0, 0.5)]
    items += [world.audio(more, at, 0.5, start_offset_s=at - 4.0) for at in (4.0, 4.5)]
    made = world(world.track("drums", *items))
    reports = run(made, redrummer, rhythm=PATTERN, with_track=True)
    lent = [[note for note in report["notes"] if "more hits are from" in note] for report in reports]
    assert ["from more" in lent[0][0], "from beats" in lent[1][0]] == [True, True]
    assert [len(notes) for notes in lent] == [1, 1]


class TwoDrums(ClickTranscriber):
    """Hears a snare in every click that is turned."""

    def events(self, recording):
        kicks = super().events(recording)
        at = [round(event.onset_s * recording.sample_rate) for event in kicks]
        is_turned = [recording.read(start, start + 1)[0, 0] < 0 for start in at]
        return [
            replace(e, drum_class="SD" if turned else "KD") for e, turned in zip(kicks, is_turned, strict=True)
        ]


def test_items_apart_lend_each_other_the_drums_that_one_lacks(world, write_wav, clicks):
    kick = write_wav("kick.wav", clicks([0.1, 0.6], length_s=1.0))
    both = write_wav("both.wav", clicks([0.1], length_s=1.0) - clicks([0.6], length_s=1.0))
    rhythm = Rhythm((DrumEvent(0.0, "KD", 0.9), DrumEvent(0.5, "SD", 0.9)), 1.0, None, "made")
    drums = world.track("drums", world.audio(kick, 0.0), world.audio(both, 4.0))
    made = world(drums, world.track("top", world.audio(kick, 0.0)))
    reports = run(made, Redrummer(TwoDrums()), rhythm=rhythm)
    said = "snare drum: of both.wav at 4.00 s on its track, as it has none"
    assert [said in report["notes"] for report in reports] == [True, False, False]
    for report, sign in zip(reports, (-1, -1, 1), strict=True):  # alone, the kick plays for the snare
        sound, rate = soundfile.read(report["output"])
        assert np.sign(sound[round(0.5 * rate)]) == sign


def test_a_bar_to_begin_on_needs_the_project_s_tempo():
    with pytest.raises(SettingsError, match="--start-bar counts the project's bars"):
        Order(settings=replace(IN_A_DAW, source_bpm=120.0), start_bar=1)


@in_reaper
def test_lanes_that_do_not_play_are_left_out(world, beats, redrummer):
    items = [
        world.audio(beats, 0.0, 1.0),
        world.audio(beats, 0.0, 2.0, is_silent_lane=True, name="other take"),
        world.audio(beats, 1.0, 1.0, start_offset_s=1.0),
    ]
    reports = run(world(world.track("drums", *items)), redrummer, rhythm=PATTERN)
    assert reports[0]["items"] == 2
    assert reports[1]["item"] == "other take"
    assert reports[1]["skipped"] == "its lane does not play"


@in_reaper
def test_stretch_markers_are_followed(world, beats, redrummer):
    markers = [(0.0, 0.5, 0.0), (1.0, 1.7, 0.0), (2.0, 2.2, 0.0)]
    played = world.audio(beats, 0.0, 3.0, start_offset_s=0.5, markers=markers)
    gliding = world.audio(beats, 3.0, 1.0, markers=[(0.0, 0.0, 0.2)])
    made = world(world.track("drums", played, gliding))
    item = made.session().collect().items[0]
    regions = [(r.position_s, r.file_s, r.play_rate) for r in item.warp_regions]
    assert np.array(regions) == pytest.approx(np.array([(0.0, 0.5, 1.2), (1.0, 1.7, 0.5), (2.0, 2.2, 1.0)]))
    first, second = run(made, redrummer, rhythm=PATTERN)
    assert attacks_s(first["output"]) == pytest.approx(expected_s(0.0, 3.0), abs=1.5 / RATE)
    assert "stretch markers between which its speed glides" in second["error"]
    assert second["hint"].startswith("glue it")


@in_reaper
def test_levels_and_fades_are_those_of_the_project(world, beats):
    played = world.audio(
        beats, 0.0, 2.0, volume=0.5, level=(-0.5, -1.0, 0.5), fade_in=(0.25, 2), fade_out=(0.125, 0)
    )
    (item,) = world(world.track("drums", played)).session().collect().items
    assert (item.gain, item.pan) == (-0.25, -1.0)
    assert (item.fade_in, item.fade_out) == (Fade(length_s=0.25, shape=2), Fade(length_s=0.125))


@in_reaper
@pytest.mark.parametrize(
    ("pan", "law", "gain"), [(0.0, -1.0, 1.0), (0.5, -1.0, 1.5), (0.0, 1.0, 2.0), (1.0, 1.0, 2.0)]
)
def test_a_pan_law_counts_against_that_of_a_new_take(world, beats, pan, law, gain):
    played = world.audio(beats, 0.0, 2.0, level=(1.0, pan, law))
    (item,) = world(world.track("drums", played), pan_law=0.5).session().collect().items
    assert (item.gain, item.pan) == (gain, pan)


@in_reaper
def test_bars_are_counted_as_the_ruler_shows_them(world, beats, redrummer):
    made = world(world.track("drums", world.audio(beats, 4.0, 4.0)), bar_offset=-2)
    two_bars = replace(PATTERN, events=PATTERN.events[:2], length_s=4.0)
    (report,) = run(made, redrummer, rhythm=two_bars, start_bar=0)
    # The ruler's bar 0 begins at beat 4: the take, at beat 8, begins with bar 2 of the rhythm.
    expected = [(12 + 2 * at) / 2 - 4.0 for at in (0.0, 0.35)]
    assert attacks_s(report["output"]) == pytest.approx(expected, abs=1.5 / RATE)
    assert "bar 1 of kicks is on bar 0 of the project" in report["notes"]
    with pytest.raises(SettingsError, match="--start-bar is -2, but the project begins with bar -1"):
        run(made, redrummer, rhythm=two_bars, start_bar=-2)
    usual = world(world.track("drums", world.audio(beats, 4.0, 4.0)))
    with pytest.raises(SettingsError, match="--start-bar is 0, but the project begins with bar 1"):
        list(dry_reports(usual.session().collect(), Order(settings=IN_A_DAW, rhythm=PATTERN, start_bar=0)))


@in_reaper
def test_only_what_cannot_be_kept_is_refused(world, beats, redrummer):
    items = [
        world.audio(beats, 0.0, 1.0),
        world.audio(beats, 1.0, 1.0, play_rate=1.5),
        world.audio(beats, 2.0, 1.0, start_offset_s=2.0),
    ]
    reports = run(world(world.track("drums", *items)), redrummer, replace(IN_A_DAW, mix=0.5), rhythm=PATTERN)
    assert [(r["position_s"], r.get("items")) for r in reports] == [(0.0, 3), (1.0, None)]
    assert "1.5 times as fast at its own pitch: nothing of it can be kept" in reports[1]["error"]
    assert soundfile.info(reports[0]["output"]).frames == 3 * RATE


# The grid


def test_bar_1_of_a_rhythm_is_on_the_bar_in_which_a_take_begins(world, beats, redrummer):
    # Bars of 2 s up to the tempo step at 4 s, then of 2 2/3 s. The second begins late in bar 3.
    items = [world.audio(beats, 0.75, 2.0), world.audio(beats, 5.5, 2.0), world.audio(beats, 9.3, 0.5)]
    made = world(world.track("drums", *items), points=STEP)
    reports = run(made, redrummer, rhythm=PATTERN)
    for report, begin_s, length_s, beat in zip(reports, (0.75, 5.5), (2.0, 2.0), (0, 8), strict=False):
        expected = expected_s(begin_s, begin_s + length_s, beat)
        assert attacks_s(report["output"]) == pytest.approx(expected, abs=1.5 / RATE)
    assert "bar 1 of kicks is on bar 3 of the project" in reports[1]["notes"]
    # A little before bar 5, at 9 1/3 s: the rest of it is bar 5's.
    assert attacks_s(reports[2]["output"])[0] == pytest.approx(9 + 1 / 3 - 9.3, abs=1.5 / RATE)


def test_the_bar_that_a_rhythm_begins_on_may_be_given(world, beats, redrummer):
    made = world(world.track("drums", world.audio(beats, 4.0, 4.0)), points=STEP)
    two_bars = replace(PATTERN, events=PATTERN.events[:2], length_s=4.0)
    (report,) = run(made, redrummer, rhythm=two_bars, start_bar=2)
    # From bar 2, at beat 4, each 8 beats: the take begins with bar 2 of the rhythm, which is empty.
    expected = [TEMPO.seconds_at(12 + 2 * at) - 4.0 for at in (0.0, 0.35)]
    assert attacks_s(report["output"]) == pytest.approx(expected, abs=1.5 / RATE)
    assert "bar 1 of kicks is on bar 2 of the project" in report["notes"]


@pytest.mark.parametrize("world", [*REAPER, "als"], indirect=True)
def test_bars_follow_the_metres_of_the_project(world, beats):
    metres = [(0.0, 3, 4), (3.0, 6, 8), (7.5, 4, 4)]
    points = [(3.0, 120.0, False), (7.5, 60.0, False)]
    made = world(world.track("drums", world.audio(beats)), points=points, metres=metres)
    bars = made.session().collect().bars
    assert bars.metres == ((0.0, 3.0), (6.0, 3.0), (15.0, 4.0))
    assert [bars.at(beat) for beat in (0.0, 2.9, 3.0, 14.0, 15.0, 20.0)] == [
        *((1, 0.0), (1, 0.0), (2, 3.0), (5, 12.0), (6, 15.0), (7, 19.0))
    ]


def test_bars_are_cut_where_the_metre_changes():
    bars = Bars.of([(10.0, 7, 8), (0.0, 4, 4)])
    assert [bars.at(beat) for beat in (8.0, 9.9, 10.0, 13.5, 13.4)] == [
        *((3, 8.0), (3, 8.0), (4, 10.0), (5, 13.5), (4, 10.0))
    ]
    assert [bars.beat_of(bar) for bar in (-1, 1, 3, 4, 6)] == [-8.0, 0.0, 8.0, 10.0, 17.0]
    for metre in ((4, 0), (0, 4), (400, 4)):
        with pytest.raises(DawError, match="metre of"):
            Bars.of([(0.0, *metre)])


# The sound


def item(path, position_s=0.0, length_s=1.0, **more):
    plain = {"id": str(position_s), "track": 0, "kind": "audio", "name": "x", "file": str(path)}
    return Item(**{**plain, "position_s": position_s, "length_s": length_s, **more})


@pytest.fixture
def noise(write_wav):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 8 * RATE)).astype(np.float32)
    return write_wav("noise.wav", samples, subtype="FLOAT"), samples


def test_cut_and_crossfaded_a_recording_is_itself_again(noise):
    path, samples = noise
    length_s = 0.02
    cuts = [0.0, 0.7, 1.93, 3.141, 5.0, 7.5]
    parts = [
        item(
            path,
            begin,
            end + length_s - begin,
            start_offset_s=begin,
            fade_in=Fade(length_s=length_s if begin else 0.0),
            fade_out=Fade(length_s=length_s),
        )
        for begin, end in pairwise(cuts)
    ]
    whole = joined(parts)
    with open_item(whole) as recording:
        found = recording.read(0, recording.n_samples)
        np.testing.assert_array_equal(recording.read(30_000, 90_000), found[:, 30_000:90_000])
    n_samples = round(7.5 * RATE)
    # Where the samples of a cut are rounded, the gains of both are a sample's part off.
    np.testing.assert_allclose(found[:, :n_samples], samples[:, :n_samples], atol=2e-3)


def test_parts_of_other_forms_take_the_form_of_most(noise, write_wav, clicks):
    stereo, _ = noise
    other = write_wav("other.wav", clicks([0.5], length_s=1.0, sample_rate=48_000), 48_000)
    with open_item(joined([item(stereo, 0.0, 1.0), item(other, 1.25, 1.0)])) as recording:
        assert (recording.sample_rate, recording.n_channels, recording.format.subtype) == (RATE, 2, "FLOAT")
        gap = recording.read(RATE, round(1.25 * RATE))
        assert not gap.any()
        left, right = recording.read(round(1.7 * RATE), round(1.8 * RATE))
    assert (left == right).all()
    assert np.argmax(np.abs(left) > 0.2) == pytest.approx(0.05 * RATE, abs=2)


def test_parts_at_another_speed_lie_after_one_another_at_that_of_their_files(beats):
    faster = item(beats, 1.0, 1.0, start_offset_s=1.0, play_rate=1.5)
    whole = joined([item(beats, 0.0, 1.0), faster, item(beats, 2.5, 1.0, start_offset_s=4.0)])
    assert whole.part_starts_s() == pytest.approx([0.0, 1.0, 3.0])
    with open_item(whole) as recording:
        sound = np.abs(recording.read(0, recording.n_samples)[0])
    assert recording.duration_s == pytest.approx(4.0)
    for start_s in (0.0, 1.0, 3.0):
        assert sound[round((start_s + 0.02) * RATE) :][:50].max() > 0.3
    assert [whole.played_s(at) for at in (0.5, 1.75, 3.25)] == pytest.approx([0.5, 1.5, 2.75])
    assert not whole.is_at_own_speed
    assert whole.keeps_pitch


def test_parts_that_cannot_be_read_are_silent_unless_none_can(beats, tmp_path):
    gone = item(tmp_path / "gone.wav", 1.0)
    failed = []
    with open_item(joined([item(beats), gone]), on_failure=lambda part, err: failed.append(part)) as recording:
        assert recording.duration_s == pytest.approx(1.0)
    assert failed == [gone]
    with (
        pytest.raises(AudioError, match="gone"),
        open_item(joined([gone, replace(gone, position_s=2.0)]), on_failure=lambda *_: None),
    ):
        pass


def test_many_files_are_open_only_in_turn(write_wav, clicks, monkeypatch):
    monkeypatch.setattr("daw_bridge.items._OPEN_FILES", 3)
    files = [write_wav(f"{n}.wav", clicks([0.05], length_s=0.1)) for n in range(12)]
    with open_item(joined([item(path, 0.1 * n, 0.1) for n, path in enumerate(files)])) as recording:
        sound = recording.read(0, recording.n_samples)[0]
    onsets = np.flatnonzero((np.abs(sound) > 0.3) & (np.abs(np.roll(sound, 1)) <= 0.3))
    assert len(np.unique(onsets // round(0.1 * RATE))) == 12


@pytest.mark.parametrize("shape", range(7))
def test_fades_rise_from_nothing_to_all(write_wav, shape):
    ones = write_wav("ones.wav", np.ones((1, RATE), np.float32), subtype="FLOAT")
    faded = item(ones, fade_in=Fade(length_s=0.25, shape=shape), fade_out=Fade(length_s=0.5, shape=shape))
    with open_item(faded) as recording:
        sound = recording.read(0, RATE)[0]
    rise, fall = sound[: RATE // 4], sound[RATE // 2 :][::-1]
    assert (sound[RATE // 4 : RATE // 2] == 1).all()
    for slope in (rise, fall):
        assert slope[0] == pytest.approx(0.0, abs=5e-4)
        assert slope[-1] == pytest.approx(1.0, abs=1e-3)
        assert (np.diff(slope) >= 0).all()
    assert rise[RATE // 8] == pytest.approx(
        {0: 0.5, 1: 0.75, 2: 0.25, 3: 0.9375, 4: 0.0625}.get(shape, 0.5), abs=1e-3
    )


def test_gain_and_pan_are_in_the_sound(write_wav):
    ones = write_wav("ones.wav", np.ones((2, 100), np.float32), subtype="FLOAT")
    with open_item(item(ones, length_s=100 / RATE, gain=-0.5, pan=0.5)) as recording:
        assert recording.read(10, 11).ravel().tolist() == [-0.25, -0.5]


@pytest.mark.parametrize(
    ("markers", "expected"),
    [
        ([(0.0, 0.5, 0.0)], [(0.0, 0.5, 1.0)]),
        ([(0.25, 0.5, 0.0)], [(0.0, 0.25, 1.0), (0.25, 0.5, 1.0)]),
        ([(-1.0, 0.5, 0.0), (1.0, 3.5, 0.0)], [(0.0, 2.0, 1.5)]),
        ([(0.0, 0.0, 0.0), (0.5, 1.0, 0.0), (5.0, 9.0, 0.0)], [(0.0, 0.0, 2.0), (0.5, 1.0, 8 / 4.5)]),
    ],
)
def test_markers_are_regions_from_one_to_the_next(markers, expected):
    found = stretched(item("x.wav"), markers).warp_regions
    assert np.array([(r.position_s, r.file_s, r.play_rate) for r in found]) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("markers", "more"),
    [
        ([(0.0, 0.0, 0.0), (0.0, 1.0, 0.0)], {}),
        ([(0.0, 1.0, 0.0), (0.5, 0.5, 0.0)], {}),
        ([(0.0, 0.0, 0.0)], {"is_reversed": True}),
        ([(0.0, 0.0, 0.0)], {"section_length_s": 0.5}),
        ([(0.0, 0.0, 0.1)], {}),
    ],
)
def test_markers_that_cannot_be_followed_are_refused(markers, more):
    assert stretched(item("x.wav", **more), markers).state == "stretched"


# Which items are one


def spans(items, bpm=120.0):
    found = performances(items, TempoMap.constant(bpm))
    return [(one.position_s, round(one.end_s, 6), max(1, len(one.parts))) for one in found]


def test_items_follow_one_another_up_to_a_beat():
    begins = [0.0, 1.0, 2.5, 4.01, 5.01]
    items = [item("x.wav", begin) for begin in begins]
    assert spans(items) == [(0.0, 3.5, 3), (4.01, 6.01, 2)]
    assert spans(items, 110.0) == [(0.0, 6.01, 5)]


def test_what_is_launched_muted_or_on_another_track_is_not_joined():
    items = [
        *(item("x.wav", 0.0), item("x.wav", 1.0, is_launched=True)),
        *(item("x.wav", 1.0, state="muted"), item("x.wav", 1.0, track=1)),
    ]
    assert spans(items) == [(0.0, 1.0, 1), *[(1.0, 2.0, 1)] * 3]


def test_a_missing_item_does_not_break_what_it_lies_in():
    items = [item("x.wav", 0.0), item("x.wav", 1.0, state="offline"), item("x.wav", 2.0)]
    assert spans(items) == [(0.0, 3.0, 2), (1.0, 2.0, 1)]


def test_items_within_others_belong_to_them():
    items = [item("x.wav", 0.0, 10.0), item("x.wav", 1.0), item("x.wav", 10.2)]
    assert spans(items) == [(0.0, 11.2, 3)]


def test_pieces_of_a_take_tile_it(write_wav):
    count = (np.arange(1000) / 1000).astype(np.float32)
    file = write_wav("take.wav", count, 1000, "FLOAT")
    source = joined([item("x.wav", 2.0, 0.5), item("x.wav", 2.4, 0.2), item("x.wav", 2.7, 0.2)])
    take = FinishedTake(source=source, file=file, name="take", length_s=1.0, n_channels=1)
    pieces = cut_at_items([take])
    assert [(round(p.source.position_s, 6), p.length_s) for p in pieces] == [(2.0, 0.4), (2.4, 0.2), (2.7, 0.3)]
    found = [soundfile.read(piece.file, dtype="float32")[0] for piece in pieces]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([count[:600], count[700:]]))
    assert cut_at_items([replace(take, source=source.parts[0])])[0].file == file
