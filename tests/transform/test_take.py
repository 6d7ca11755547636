from itertools import product

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, rhythm_of
from transform import spool
from transform.audio import Recording
from transform.engine import Redrummer
from transform.events import DrumEvent
from transform.settings import RenderSettings
from transform.take import Take


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
def test_a_take_keeps_rate_channels_and_depth(click_source, sample_rate, tmp_path):
    for n_channels, subtype in product([1, 2, 6], ["PCM_16", "PCM_24", "FLOAT"]):
        path, redrummer = click_source(sample_rate, n_channels, subtype)
        with Recording.open(path) as source:
            take = redrummer.redrum(source, rhythm_of(0.5, length_s=1.0))
            take.write(tmp_path / "out.wav", overwrite=True)
        info = soundfile.info(tmp_path / "out.wav")
        assert (info.samplerate, info.channels, info.subtype) == (sample_rate, n_channels, subtype)
        assert info.frames == sample_rate


def test_the_dry_end_of_mix_is_the_source(click_source):
    path, redrummer = click_source()
    source = Recording.open(path)
    take = redrummer.redrum(source, rhythm_of(0.3), RenderSettings(mix=0.0, length="source"))
    np.testing.assert_array_equal(take.read(0, take.n_samples), source.read(0, source.n_samples))


def test_nothing_clips_and_the_gain_is_said(clicks, write_wav, tmp_path):
    path = write_wav("loud.wav", clicks([0.5], length_s=1.0) / 0.8, subtype="PCM_16")
    redrummer = Redrummer(HeardEverything({"loud": [DrumEvent(0.5, "SD", 0.9)]}))
    crowded = rhythm_of(*[0.1 + 0.0101 * i for i in range(40)], length_s=1.0)
    take = redrummer.redrum(Recording.open(path), crowded, RenderSettings(gain_db={"SD": 12.0}))
    assert take.gain_db() < -8
    assert [note.partition(" by 9")[0] for note in take.notes() if "clips" in note] == [
        "40 strokes are turned down, by up to 3.00 dB, and the whole is turned down"
    ]
    assert any(f"{-take.gain_db():.2f} dB" in note for note in take.notes())
    take.write(tmp_path / "out.wav")
    out, _ = soundfile.read(tmp_path / "out.wav")
    assert 0.99 < np.abs(out).max() < 1.0


def test_tails_are_cut_rung_out_or_wrapped(click_source):
    path, redrummer = click_source()
    late = rhythm_of(1.998)

    def take(tail):
        return redrummer.redrum(Recording.open(path), late, RenderSettings(tail=tail))

    cut, rung, wrapped = take("cut"), take("ring"), take("wrap")
    assert cut.n_samples == wrapped.n_samples == 88_200
    assert rung.n_samples > 88_200
    assert np.abs(rung.read(88_200, rung.n_samples)).max() > 0.01
    assert np.abs(cut.read(0, 1000)).max() == 0
    np.testing.assert_allclose(wrapped.read(0, 300), rung.read(88_200, 88_500), atol=1e-6)


def test_a_take_of_many_minutes_is_faded_at_its_end(click_source):
    path, redrummer = click_source()
    length_s = 2**24 / 44_100 + 10.1
    take = redrummer.redrum(Recording.open(path), rhythm_of(length_s - 0.006, length_s=length_s))
    *_, end = take.blocks()
    assert np.abs(end[0, -250:-220]).max() > 0.1
    assert np.abs(end[0, -3:]).max() < 0.002


@pytest.mark.parametrize("length", [0.502, 4.0])
def test_the_original_that_ends_in_the_middle_is_faded(clicks, write_wav, length):
    tone = np.sin(2 * np.pi * 100 * np.arange(44_100) / 44_100 + 1)
    path = write_wav("source.wav", 0.5 * tone)
    redrummer = Redrummer(HeardEverything({"source": [DrumEvent(0.1, "SD", 0.9)]}))
    settings = RenderSettings(mix=0.0, length=length)
    take = redrummer.redrum(Recording.open(path), rhythm_of(0.0), settings)
    end = min(44_100, take.n_samples)
    assert np.abs(take.read(end - 1, end)).max() < 0.005
    np.testing.assert_array_equal(take.read(0, end - 500), Recording.open(path).read(0, end - 500))


def test_blocks_add_up_to_the_take(click_source):
    path, redrummer = click_source()
    take = redrummer.redrum(Recording.open(path), rhythm_of(*np.arange(0.1, 1.9, 0.13)))
    np.testing.assert_allclose(
        np.concatenate(list(take.blocks(1_000)), axis=1), take.read(0, take.n_samples), atol=1e-6
    )
    assert take.read(-50, 10)[:, :50].max() == 0
    assert take.read(take.n_samples, take.n_samples + 10).max() == 0


@pytest.mark.parametrize("has_room", [True, False])
def test_a_long_take_is_rendered_once_if_it_can_be_kept(click_source, monkeypatch, caplog, has_room):
    def no_room(kept, block):
        raise OSError(28, "No space left on device")

    path, redrummer = click_source()
    monkeypatch.setattr(spool, "_IN_MEMORY_BYTES", 100_000)
    if not has_room:
        monkeypatch.setattr(spool.SpoolFile, "add", no_room)
    take = redrummer.redrum(
        Recording.open(path), rhythm_of(*np.arange(0.1, 1.9, 0.13)), RenderSettings(length=20.0)
    )
    n_rendered, raw = [], Take._raw
    monkeypatch.setattr(Take, "_raw", lambda *what: n_rendered.append(what[2] - what[1]) or raw(*what))
    blocks = np.concatenate(list(take.blocks()), axis=1)
    assert blocks.shape[1] == take.n_samples == 20 * 44_100
    assert sum(n_rendered) == take.n_samples * (1 if has_room else 2)
    assert has_room != ("No space left on device: a long take is computed twice" in caplog.text)
    np.testing.assert_allclose(blocks, raw(take, 0, take.n_samples) * 10 ** (take.gain_db() / 20), atol=1e-6)
