import numpy as np
import pytest

from tests.transform.conftest import decaying_noise
from transform.audio import Recording
from transform.events import DrumEvent
from transform.onsets import first_attack, groups, locate_attack, refine_onsets


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 48_000, 96_000, 192_000])
def test_an_attack_is_found_to_the_sample_however_rough_its_transcription(sample_rate):
    sound = np.zeros(sample_rate, dtype=np.float32)
    attack = round(0.5 * sample_rate) + 7
    burst = decaying_noise(sample_rate, 0.2, 0.03)
    burst[0] = 0.3
    sound[attack : attack + len(burst)] += burst
    for error_ms in (-5, -3, 0, 4, 5):
        found = locate_attack(sound, sample_rate, attack + round(error_ms / 1000 * sample_rate))
        assert abs(found - attack) <= 1, f"{error_ms} ms off"


def test_a_hat_is_found_on_top_of_a_ringing_kick():
    sample_rate = 44_100
    time_s = np.arange(sample_rate) / sample_rate
    sound = (0.8 * np.sin(2 * np.pi * 50 * time_s) * np.exp(-time_s / 0.4)).astype(np.float32)
    attack = 8_000
    hat = decaying_noise(sample_rate, 0.05, 0.01)
    sound[attack : attack + len(hat)] += 0.2 * np.diff(hat, prepend=0)
    assert abs(locate_attack(sound, sample_rate, attack + 200) - attack) <= 0.001 * sample_rate


@pytest.mark.parametrize("around", [-5, 0, 1, 99])
def test_an_attack_in_a_tiny_or_silent_recording_stays_inside_it(around):
    assert 0 <= locate_attack(np.zeros(2, dtype=np.float32), 44_100, around) <= 1
    assert locate_attack(np.ones(1, dtype=np.float32), 44_100, 0) == 0


def test_strokes_within_25_ms_are_one_group():
    events = [DrumEvent(t, c, 0.5) for t, c in [(0.51, "HH"), (0.5, "KD"), (0.7, "SD"), (0.53, "SD")]]
    assert [[e.drum_class for e in group] for group in groups(events)] == [["KD", "HH"], ["SD"], ["SD"]]


def test_refined_onsets_keep_classes_and_velocities(clicks):
    sound = clicks([0.25, 0.75], length_s=1.0)
    events = [DrumEvent(0.245, "KD", 0.9), DrumEvent(0.756, "HH", 0.4, "open")]
    refined = refine_onsets(Recording.from_samples(sound, 44_100), events)
    assert refined == [DrumEvent(0.25, "KD", 0.9), DrumEvent(0.75, "HH", 0.4, "open")]


def test_several_views_begin_where_the_first_audible_one_does():
    views = np.zeros((3, 4_410), dtype=np.float32)
    for view, (attack, gain) in zip(views, ((2_000, 0.5), (2_100, 1.0), (1_900, 0.01)), strict=True):
        view[attack:] = gain * np.exp(-np.arange(4_410 - attack) / 300)
    assert first_attack(views, 44_100, 2_050) == 2_000


def test_views_that_only_fall_have_an_attack():
    falling = np.exp(-np.arange(4_410) / 100).astype(np.float32)
    found = first_attack(np.stack((falling, 0.5 * falling)), 44_100, 900)
    assert abs(found - 900) <= 0.01 * 44_100
