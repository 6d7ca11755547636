"""On which samples a rhythm plays in a take."""

import pytest

from daw_bridge.rhythm_times import TakeTime
from daw_bridge.session import Item, Job, Track
from daw_bridge.takes import settings_of
from transform.drum_maps import ANY_DRUMS
from transform.library import resolve_rhythm
from transform.midi import read_midi
from transform.signal import nearest_sample

BAR_BEATS = 4


def played_at(bar, *, bpm, rate):
    """Return the samples on which a rhythm plays in a take that begins with a bar of its project."""
    begin = round(bar * BAR_BEATS * 60 / bpm * rate)
    item = Item(id="1", track=0, kind="audio", name="", position_s=begin / rate, length_s=4.0)
    job = Job(
        daw="rpp",
        project="",
        project_id="",
        media_folder="",
        tempo=((0.0, bpm),),
        tracks=(Track(id="1", name="drums"),),
        items=(item,),
    )
    rhythm = read_midi(resolve_rhythm("hip-hop-bounce-140").path, drum_map=ANY_DRUMS)
    played = TakeTime(job=job, source=item, settings=settings_of({"length": 4.0})).looped(rhythm)
    return [nearest_sample(event.onset_s, rate) for event in played.rhythm.events]


# Bars of these begin on samples, and strokes lie in the middle of two.
@pytest.mark.parametrize(("bpm", "rate"), [(120.0, 44_100), (90.0, 44_100), (125.0, 48_000)])
def test_wherever_a_take_begins_its_strokes_lie_on_the_same_samples(bpm, rate):
    first = played_at(0, bpm=bpm, rate=rate)
    assert len(first) >= 20
    assert all(played_at(bar, bpm=bpm, rate=rate) == first for bar in (1, 2, 3, 7, 64, 999))
