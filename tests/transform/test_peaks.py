"""Peaks between samples, and how a take is kept under them."""

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, rhythm_of
from transform.audio import Recording
from transform.engine import Redrummer
from transform.events import DrumEvent
from transform.peaks import Dips, PeakMeter, clipping_notes, true_peak
from transform.settings import RenderSettings

RATE = 44_100


def test_a_peak_between_samples_is_found_whatever_the_blocks():
    sine = np.sin(np.pi / 2 * np.arange(4000) + np.pi / 4).astype(np.float32)  # its samples are at .707
    sine *= np.hanning(4000).astype(np.float32)
    for size in (4000, 7, 1000):
        blocks = [sine[None, i : i + size] for i in range(0, 4000, size)]
        assert true_peak(blocks, 1, RATE) == pytest.approx(1.0, abs=0.01)


def test_where_a_threshold_is_passed():
    sound = np.zeros((2, 20_000), dtype=np.float32)
    sound[0, 3000], sound[1, 9000], sound[1, 9010] = 0.95, 0.98, -1.2
    meter = PeakMeter(2, RATE)
    for start in range(0, 20_000, 999):
        meter.add(sound[:, start : start + 999])
    meter.end()
    assert [at for at, _ in meter.passed(0.9)] == pytest.approx([3000, 9010], abs=1)
    assert [at for at, _ in meter.passed(1.0)] == pytest.approx([9010], abs=1)
    assert meter.sample_peak == pytest.approx(1.2)


@pytest.fixture
def loud(clicks, write_wav):
    """Return a function that makes a take of a loud source: strokes far apart, then two at once."""

    def make(subtype, gain=0.6, **settings):
        sound = gain * clicks([0.5, 1.5], length_s=2.5) / 0.8
        path = write_wav(f"{subtype}.wav", sound, subtype=subtype)
        events = [DrumEvent(0.5, "SD", 0.8), DrumEvent(1.5, "KD", 0.8)]
        redrummer = Redrummer(HeardEverything({subtype: events}))
        rhythm = rhythm_of(0.2, 0.8, length_s=2.0, drum_class="SD")
        both = [*rhythm.events, DrumEvent(0.8, "KD", 0.8)]
        return redrummer.redrum(
            Recording.open(path), type(rhythm)(tuple(both), 2.0, None, "made"), RenderSettings(**settings)
        )

    return make


def test_strokes_that_make_a_peak_are_turned_down_and_others_stay(loud):
    take = loud("PCM_16")
    quiet = loud("FLOAT").read(0, 60_000)
    out = take.read(0, 60_000)
    np.testing.assert_allclose(out[:, :30_000], quiet[:, :30_000], atol=1e-4)  # the stroke at .2 s
    assert take.gain_db() == 0
    assert np.abs(out).max() <= 10 ** (-1 / 20) + 1e-3
    assert np.abs(quiet).max() > 1
    assert any("turned down" in note for note in take.notes())


def test_floating_point_is_not_turned_down_and_its_peak_is_named(loud, tmp_path):
    take = loud("FLOAT", gain_db={"KD": 12.0})
    take.write(tmp_path / "out.wav")
    out, _ = soundfile.read(tmp_path / "out.wav")
    peak_db = 20 * np.log10(np.abs(out).max())
    assert peak_db > 6
    assert f"peaks are {peak_db:.2f} dB over full scale, which floating point holds" in take.notes()


def test_what_is_written_decides_not_what_the_source_is(loud, tmp_path):
    take = loud("FLOAT", gain_db={"KD": 12.0})
    assert take.gain_db() == 0
    take.write(tmp_path / "out.wav", bit_depth="24")
    out, _ = soundfile.read(tmp_path / "out.wav")
    assert np.abs(out).max() < 1
    assert take.gain_db() < 0


def test_a_source_that_peaks_higher_may_go_on_doing_so(loud):
    assert loud("PCM_16", gain=0.99).gain_db() > loud("PCM_16", gain=0.5, gain_db={"SD": 6.0}).gain_db() - 1
    alone = loud("PCM_16", gain=0.99, gain_db={"KD": -60.0})
    assert alone.gain_db() == 0
    assert np.abs(alone.read(0, 60_000)).max() == pytest.approx(0.99, abs=0.02)


@pytest.mark.parametrize("hz", [14_000, 17_000, 20_000])
def test_peaks_of_high_tones_are_found_too(hz):
    time_s = np.arange(3000) / RATE
    burst = np.sin(2 * np.pi * hz * time_s + 0.3) * np.hanning(3000)
    sound = (0.95 * burst / np.abs(burst).max()).astype(np.float32)[None]
    spectrum = np.fft.rfft(sound[0])
    finer = np.fft.irfft(np.pad(spectrum, (0, 8 * 1500)), 9 * 3000)[:26_000] * 9  # about nine times the rate
    assert true_peak([sound], 1, RATE) == pytest.approx(np.abs(finer).max(), rel=0.03)


def test_soft_strokes_beside_a_peak_stay_as_they_are(clicks, write_wav):
    sound = clicks([0.5], length_s=3.0) / 0.8 + 0.02 * clicks([1.5], length_s=3.0) / 0.8
    path = write_wav("both.wav", sound, subtype="PCM_16")
    events = [DrumEvent(0.5, "KD", 0.8), DrumEvent(1.5, "SD", 0.8)]
    redrummer = Redrummer(HeardEverything({"both": events}))
    rhythm = rhythm_of(0.5, 1.5, length_s=2.5, drum_class="KD")
    struck = (*rhythm.events, DrumEvent(0.51, "SD", 0.8))
    out, whole = (
        redrummer.redrum(
            Recording.open(path),
            type(rhythm)(tuple(sorted(struck, key=lambda e: e.onset_s)), 2.5, None, "made"),
            RenderSettings(gain_db={"KD": 2.0}),
        )
        for _ in range(2)
    )
    whole.prepare("FLOAT")
    at = slice(round(0.509 * RATE), round(0.52 * RATE))
    soft, full = out.read(0, RATE)[0][at], whole.read(0, RATE)[0][at]
    gain_db = out.gain_db()
    assert np.abs(soft).max() / np.abs(full).max() == pytest.approx(10 ** (gain_db / 20), abs=0.05)


@pytest.mark.parametrize(
    ("down_db", "gain_db", "limited_db", "noted"),
    [
        ([], -0.01, [], []),
        ([0.3, 0.4], 0.0, [], []),
        ([2.0, 0.4], -0.2, [], ["2 strokes are turned down, by up to 2.00 dB, so that nothing clips"]),
        (
            [3.0],
            -1.5,
            [0.7],
            [
                "1 stroke is turned down, by up to 3.00 dB, and 1 stroke is limited, by up to 0.70 dB, and "
                "the whole is turned down by 1.50 dB, so that nothing clips"
            ],
        ),
    ],
)
def test_what_is_turned_down_is_one_sentence_from_half_a_decibel_on(down_db, gain_db, limited_db, noted):
    assert clipping_notes(down_db, gain_db, limited_db) == noted


def test_dips_are_as_deep_as_peaks_are_high_and_reach_from_the_attack_to_after_them():
    dips = Dips([(10_400, 2.0), (60_000, 9.0)], [10_000, 30_000], RATE)
    assert dips.depths_db == [2.0, 3.0]  # 3 dB at most
    gain_db = 20 * np.log10(dips.gains(0, 80_000))
    np.testing.assert_allclose(gain_db[9_912 : 10_400 + 88], -2.0, atol=1e-3)  # 2 ms to either side
    np.testing.assert_allclose(gain_db[60_000 - 88 : 60_000 + 88], -3.0, atol=1e-3)  # no attack is near
    assert np.abs(np.diff(gain_db)).max() < 0.05
    for first, last in ((0, 9_800), (10_400 + 8_950, 59_800), (60_000 + 8_950, 80_000)):
        assert not gain_db[first:last].any()
    for start, stop in ((0, 9_900), (9_900, 10_500), (12_000, 80_000)):
        np.testing.assert_array_equal(20 * np.log10(dips.gains(start, stop)), gain_db[start:stop])


def test_dips_reach_round_the_ends_of_a_loop():
    gain_db = 20 * np.log10(Dips([(0, 3.0), (39_000, 1.0)], [0, 39_000], RATE, period=40_000).gains(0, 40_000))
    assert gain_db[0] == pytest.approx(-3.0)
    assert gain_db[-1] == pytest.approx(-3.0, abs=0.05)
    assert gain_db[-130] == pytest.approx(-1.5, abs=0.6)
    assert -1.0 < gain_db[7_900] < 0.0  # what is left of both
