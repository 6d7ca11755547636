"""Views of files: an item reads the same however it is read, and copies nothing."""

import gc
import tempfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from daw_bridge.items import open_item
from daw_bridge.performances import joined
from daw_bridge.session import Item, WarpRegion
from transform.errors import AudioError

RATE = 8_000
REGIONS = (
    WarpRegion(position_s=0.0, file_s=-0.5, play_rate=0.5),
    WarpRegion(position_s=3.0, file_s=4.0, play_rate=1.5),
    WarpRegion(position_s=3.0, file_s=0.1, play_rate=0.7),
)
KINDS = {
    "plain": {"length_s": 4.0, "start_offset_s": -1.0},
    "looped": {"length_s": 11.0, "is_looped": True, "is_reversed": True, "section_length_s": 1.7},
    "short loop": {"length_s": 5.0, "is_looped": True, "start_offset_s": -0.3, "section_length_s": 0.19},
    "faster": {"length_s": 3.0, "play_rate": 1.3, "keeps_pitch": False},
    "warp_regions": {"length_s": 5.0, "warp_regions": REGIONS},
    "warped": {"length_s": 5.0, "warp_regions": REGIONS, "keeps_pitch": False},
}


@pytest.fixture
def noise(write_wav):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 6 * RATE)).astype(np.float32)
    return write_wav("noise.wav", samples, sample_rate=RATE, subtype="FLOAT")


def item(path, **more):
    return Item(id="1", track=0, kind="audio", name="x", position_s=3.0, file=str(path), **more)


@pytest.mark.parametrize("mode", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_any_way_of_reading_an_item_gives_the_same_samples(noise, monkeypatch, kind, mode):
    monkeypatch.setattr("daw_bridge.items._BLOCK_SAMPLES", 5_000)
    with open_item(item(noise, channel_mode=mode, **KINDS[kind])) as recording:
        whole = recording.read(-10, recording.n_samples + 10)
        assert whole.shape[0] == (1 if mode else 3)
        assert np.abs(whole[:, 10:-10]).max() > 0.3
        assert not whole[:, [*range(10), *range(-10, 0)]].any()
        edges = np.random.default_rng(1).integers(-10, recording.n_samples + 11, (40, 2))
        for start, stop in np.sort(edges, axis=1).tolist():
            np.testing.assert_array_equal(recording.read(start, stop), whole[:, start + 10 : stop + 10])


def test_an_item_is_a_view_that_leaves_nothing_in_the_temporary_folder(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))  # nothing can be put there
    for kind in ("plain", "looped", "warp_regions", "warped"):
        with open_item(item(noise, **KINDS[kind])) as recording:
            recording.read(0, recording.n_samples)
    gc.collect()
    noise.unlink()  # as it is closed


def test_what_is_no_sound_is_said_with_the_name_and_the_place_in_the_file(write_wav):
    samples = np.zeros((1, 2 * RATE), dtype=np.float32)
    samples[0, RATE] = np.nan
    path = write_wav("broken.wav", samples, sample_rate=RATE, subtype="FLOAT")
    with open_item(item(path, start_offset_s=0.5, length_s=1.0)) as recording:
        recording.read(0, RATE // 2)
        with pytest.raises(AudioError, match=r"broken\.wav holds a value that is not a number.* at 1\.000 s"):
            recording.read(0, RATE)


def test_an_item_without_samples_is_refused(noise):
    nothing = (WarpRegion(position_s=0.0, file_s=0.0, play_rate=1.0),)
    with (
        pytest.raises(AudioError, match="holds no samples"),
        open_item(item(noise, length_s=0.0, warp_regions=nothing)),
    ):
        pass


def test_a_gain_lifts_a_file_of_16_bits_over_full_scale_where_the_daw_stores_floating_point(write_wav):
    path = write_wav("quiet.wav", np.full((1, RATE), 0.5, np.float32), sample_rate=RATE, subtype="PCM_16")
    with open_item(item(path, length_s=1.0, gain=2.5, sample_rate=RATE)) as recording:
        assert recording.format.subtype == "FLOAT"
        assert recording.read(0, RATE).max() == 1.25


def test_a_pair_of_channels_is_stereo(noise):
    with (
        open_item(item(noise, length_s=1.0)) as whole,
        open_item(item(noise, length_s=1.0, channel_mode=68)) as pair,
    ):
        np.testing.assert_array_equal(pair.read(0, RATE), whole.read(0, RATE)[1:3])


@pytest.mark.parametrize(("mode", "channel"), [(6, 4), (69, 4), (130, 65)])
def test_a_channel_that_the_file_lacks_is_named(noise, mode, channel):
    wrong = item(noise, length_s=1.0, channel_mode=mode)
    with pytest.raises(AudioError, match=f"plays channel {channel} of a file of 3"), open_item(wrong):
        pass


def mic(path, track, *sections):
    """A microphone: sections of a file, begin and end in samples of the file, which lies at 2.1 s."""
    parts = [
        replace(
            item(path, length_s=(stop - start) / RATE, start_offset_s=start / RATE),
            position_s=2.1 + start / RATE,
            track=track,
        )
        for start, stop in sections
    ]
    return joined(parts)


def test_what_a_file_plays_does_not_depend_on_where_it_is_cut(noise):
    end = 5 * RATE
    borders = [0.0, *(np.arange(1, 40) * (end / 40.37)).tolist(), end]
    kit = Item(
        id="1",
        track=0,
        kind="audio",
        name="x",
        position_s=2.1,
        length_s=5.0,
        microphones=(
            mic(noise, 0, (0, end)),
            mic(noise, 1, *pairwise(borders)),
            mic(noise, 2, (0.4, end)),
            mic(noise, 3, (1234.56789, end)),
        ),
    )
    with open_item(kit) as recording:
        sound = recording.as_stored(0, end).reshape(4, 3, end)
    assert np.abs(sound[0]).max() > 0.3
    np.testing.assert_array_equal(sound[1], sound[0])
    np.testing.assert_array_equal(sound[2], sound[0])
    np.testing.assert_array_equal(sound[3, :, 1235:], sound[0, :, 1235:])
    assert not sound[3, :, :1235].any()


def test_only_the_speeds_of_microphones_are_compared(noise):
    def kit(*mics):
        return replace(mics[0], id="kit", microphones=mics, parts=(), file="")

    def at(rate, *borders, **more):
        parts = [
            replace(
                item(noise, length_s=(stop - start) / rate, start_offset_s=start, play_rate=rate, **more),
                position_s=3.0 + start / rate,
            )
            for start, stop in pairwise(borders)
        ]
        return joined(parts)

    with open_item(kit(at(1.1, 0.0, 4.0), at(1.1, 0.5, 1.3, 2.0, 4.0))) as recording:
        sound = recording.as_stored(0, 4 * RATE).reshape(2, 3, -1)
    np.testing.assert_array_equal(sound[1, :, RATE // 2 :], sound[0, :, RATE // 2 :])
    for other in (at(1.2, 0.0, 4.0), at(1.1, 0.0, 4.0, keeps_pitch=False)):
        with (
            pytest.raises(AudioError, match="its microphones play at different speeds"),
            open_item(kit(at(1.1, 0.0, 4.0), other)),
        ):
            pass
