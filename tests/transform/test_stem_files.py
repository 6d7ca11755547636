import numpy as np
import pytest
import soundfile

from transform import stem_files
from transform.audio import Recording
from transform.errors import OutputError, SettingsError
from transform.events import CLASSES
from transform.stem_files import write_stems

RATE = 44_100


class Shares:
    """Stems that are made: each a fixed share of the recording, the shares adding up to 1."""

    def __init__(self, recording, shares):
        assert sum(shares) == pytest.approx(1.0)
        self.recording = recording
        self._shares = np.array(shares, np.float32)[:, None, None]

    def read(self, start, stop):
        return self._shares * self.recording.read(start, stop)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(stem_files, "_BLOCK_SAMPLES", 10_000)


def written_from(stems, *args, **options):
    return write_stems(stems.recording, stems, *args, **options)


SHARES = (0.413, 0.29, 0.17, 0.1, 0.027)
LOUD = (1.4, -0.3, -0.2, 0.1, 0.0)  # as where drums cancel each other


@pytest.fixture
def recorded(write_wav):
    """Return a function that writes noise to a file and opens it."""

    def make(n_samples=25_000, n_channels=2, sample_rate=RATE, subtype="PCM_16", peak=0.9):
        noise = np.random.default_rng(0).uniform(-peak, peak, (n_channels, n_samples))
        return Recording.open(write_wav("noise.wav", noise, sample_rate, subtype))

    return make


def paths_in(folder, classes=CLASSES):
    return {drum_class: folder / f"noise_{drum_class}.wav" for drum_class in classes}


def as_stored(path):
    """Return samples as float64, shape (C, T)."""
    samples, _ = soundfile.read(path, dtype="float64", always_2d=True)
    return samples.T


def stored_sum(paths):
    return sum(as_stored(path) for path in paths.values())


@pytest.mark.parametrize(("n_channels", "sample_rate"), [(1, 8_000), (2, 44_100), (6, 192_000)])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16"])
def test_stems_add_up_to_the_recording_bit_by_bit(recorded, tmp_path, n_channels, sample_rate, subtype):
    recording = recorded(n_channels=n_channels, sample_rate=sample_rate, subtype=subtype)
    paths = paths_in(tmp_path / "out")
    written = written_from(Shares(recording, SHARES), paths)
    for path in paths.values():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (sample_rate, n_channels, subtype)
        assert info.frames == recording.n_samples
    np.testing.assert_array_equal(stored_sum(paths), recording.read(0, recording.n_samples))
    assert (written.subtype, written.gain_db, written.notes) == (subtype, 0.0, ())
    step = 2.0 ** (1 - int(subtype[-2:].strip("U")))
    for share, path in zip(SHARES, paths.values(), strict=True):
        assert np.abs(as_stored(path) - share * recording.read(0, recording.n_samples)).max() <= step


@pytest.mark.parametrize("n_channels", [1, 2])
def test_stems_of_a_loud_recording_of_24_bits_add_up_to_it_bit_by_bit(recorded, tmp_path, n_channels):
    recording = recorded(200_000, n_channels, subtype="PCM_24", peak=0.9999)
    paths = paths_in(tmp_path)
    # In float32 what four of them leave of the recording is rounded, and five rounded numbers add up elsewhere.
    written = written_from(Shares(recording, (0.9, 0.77, -0.63, 0.7, -0.74)), paths)
    assert written.subtype == "PCM_24"
    np.testing.assert_array_equal(stored_sum(paths), recording.read(0, recording.n_samples))


@pytest.mark.parametrize(("subtype", "step"), [("PCM_32", 2**-22), ("FLOAT", 2**-22)])
def test_finer_stems_add_up_to_float_precision(recorded, tmp_path, subtype, step):
    recording = recorded(subtype=subtype)
    paths = paths_in(tmp_path)
    assert written_from(Shares(recording, SHARES), paths).subtype == subtype
    assert np.abs(stored_sum(paths) - recording.read(0, recording.n_samples)).max() <= step


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_running_sums_of_stems_are_the_nearest_that_can_be_stored(recorded, tmp_path, subtype, bits):
    recording = recorded(subtype=subtype)
    halves = (0.5, 0.25, 0.125, 0.0625, 0.0625)  # of which float32 has room for every digit
    paths = paths_in(tmp_path)
    written_from(Shares(recording, halves), paths)
    levels = recording.read(0, recording.n_samples).astype(np.float64) * 2.0 ** (bits - 1)
    stored = np.cumsum([as_stored(path) for path in paths.values()], axis=0) * 2.0 ** (bits - 1)
    for share, found in zip(np.cumsum(halves), stored, strict=True):
        np.testing.assert_array_equal(found, np.rint(share * levels))
    np.testing.assert_array_equal(stored[-1], levels)


def test_stems_in_float_are_stored_as_they_are(recorded, tmp_path):
    recording = recorded(subtype="FLOAT")
    paths = paths_in(tmp_path)
    stems = Shares(recording, SHARES)
    written_from(stems, paths)
    exact = stems.read(0, recording.n_samples)
    np.testing.assert_array_equal([as_stored(path) for path in paths.values()], exact)


def test_soft_recording_keeps_its_bits(recorded, tmp_path):
    # Rounded one by one, five stems of a recording this soft would leave noise 19 dB below it.
    recording = recorded(peak=10 ** (-70 / 20))
    paths = paths_in(tmp_path)
    written_from(Shares(recording, SHARES), paths)
    np.testing.assert_array_equal(stored_sum(paths), recording.read(0, recording.n_samples))


def test_lossy_recording_becomes_24_bits(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (20_000, 2))
    soundfile.write(tmp_path / "noise.ogg", noise, RATE)
    recording = Recording.open(tmp_path / "noise.ogg")
    paths = paths_in(tmp_path)
    assert written_from(Shares(recording, SHARES), paths).subtype == "PCM_24"
    assert np.abs(stored_sum(paths) - recording.read(0, recording.n_samples)).max() <= 2**-22


def test_levels_are_those_of_the_stems(recorded, tmp_path):
    recording = recorded(peak=0.5)
    written = written_from(Shares(recording, (0.5, 0.5, 0.0, 0.0, 0.0)), paths_in(tmp_path))
    assert written.peak_db["KD"] == pytest.approx(-12.04, abs=0.01)
    assert written.level_db["KD"] == pytest.approx(-12.04 - 4.77, abs=0.1)
    assert written.level_db["CY"] == written.peak_db["CY"] == -120.0


def test_stem_beyond_full_scale_makes_all_float_and_says_so(recorded, tmp_path):
    recording = recorded()
    paths = paths_in(tmp_path)
    written = written_from(Shares(recording, LOUD), paths)
    assert (written.subtype, written.gain_db) == ("FLOAT", 0.0)
    (note,) = written.notes
    assert note == "the kick drum alone is 2.01 dB over full scale: the stems are 32-bit float"
    assert np.abs(stored_sum(paths) - recording.read(0, recording.n_samples)).max() < 1e-6


@pytest.mark.parametrize(("bit_depth", "bits"), [("16", 16), ("24", 22), ("32", 22)])
def test_stem_beyond_full_scale_in_a_depth_that_is_asked_for(recorded, tmp_path, bit_depth, bits):
    recording = recorded()
    paths = paths_in(tmp_path)
    written = written_from(Shares(recording, LOUD), paths, bit_depth=bit_depth)
    assert written.subtype == f"PCM_{bit_depth}"
    assert written.gain_db == pytest.approx(20 * np.log10(0.98 / (1.4 * 0.9)), abs=0.01)
    (note,) = written.notes
    assert "2.01 dB over full scale: all are turned down by 2.18 dB" in note
    expected = 10 ** (written.gain_db / 20) * recording.read(0, recording.n_samples)
    assert np.abs(stored_sum(paths) - expected).max() <= 2.0 ** (1 - bits)


def test_only_some_stems(recorded, tmp_path):
    recording = recorded()
    paths = paths_in(tmp_path / "out", ["SD", "HH"])
    written = written_from(Shares(recording, LOUD), paths)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"noise_SD.wav", "noise_HH.wav"}
    # The kick, too loud for 16 bits, is not written.
    assert (written.subtype, set(written.level_db)) == ("PCM_16", {"SD", "HH"})
    assert np.abs(as_stored(paths["SD"]) + 0.3 * recording.read(0, recording.n_samples)).max() <= 2**-15


@pytest.mark.parametrize("n_samples", [1, 2, 9_999, 10_000, 10_001])
def test_any_length(recorded, tmp_path, n_samples):
    recording = recorded(n_samples)
    paths = paths_in(tmp_path)
    written_from(Shares(recording, SHARES), paths)
    np.testing.assert_array_equal(stored_sum(paths), recording.read(0, n_samples))


def test_silence_is_five_silent_files(recorded, tmp_path):
    paths = paths_in(tmp_path)
    written = written_from(Shares(recorded(peak=0.0), SHARES), paths)
    assert not any(as_stored(path).any() for path in paths.values())
    assert set(written.level_db.values()) == {-120.0}


def test_progress_goes_up_to_one(recorded, tmp_path):
    told = []
    written_from(
        Shares(recorded(), SHARES),
        paths_in(tmp_path),
        progress=lambda stage, share: told.append((stage, share)),
    )
    assert told == [("separate", 0.4), ("separate", 0.8), ("separate", 1.0)]


def test_same_stems_give_the_same_bytes(recorded, tmp_path):
    recording = recorded(subtype="FLOAT")
    for folder in ("a", "b"):
        written_from(Shares(recording, SHARES), paths_in(tmp_path / folder))
    for a, b in zip(paths_in(tmp_path / "a").values(), paths_in(tmp_path / "b").values(), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_more_than_4_gib_becomes_rf64(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr("transform.audio_writing._WAV_LIMIT_BYTES", 50_000)
    recording = recorded()
    paths = paths_in(tmp_path)
    written_from(Shares(recording, SHARES), paths)
    assert {soundfile.info(path).format for path in paths.values()} == {"RF64"}
    np.testing.assert_array_equal(stored_sum(paths), recording.read(0, recording.n_samples))


def test_one_existing_file_keeps_all_from_being_written(recorded, tmp_path):
    paths = paths_in(tmp_path / "out")
    paths["HH"].parent.mkdir()
    paths["HH"].write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"noise_HH\.wav exists already"):
        written_from(Shares(recorded(), SHARES), paths)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["noise_HH.wav"]
    assert paths["HH"].read_bytes() == b"mine"
    written_from(Shares(recorded(), SHARES), paths, overwrite=True)
    assert as_stored(paths["HH"]).any()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_stems_that_cannot_be_finished_leave_nothing(recorded, tmp_path, error):
    class Breaking(Shares):
        def read(self, start, stop):
            if start:
                raise error
            return super().read(start, stop)

    paths = paths_in(tmp_path / "out")
    with pytest.raises((OutputError, KeyboardInterrupt)):
        written_from(Breaking(recorded(), SHARES), paths)
    assert list((tmp_path / "out").iterdir()) == []


def test_file_that_appears_meanwhile_is_kept_and_no_other_stem_appears(recorded, tmp_path):
    paths = paths_in(tmp_path / "out")

    class Racing(Shares):
        def read(self, start, stop):
            if stop == self.recording.n_samples:
                paths["TT"].write_bytes(b"mine")
            return super().read(start, stop)

    with pytest.raises(OutputError, match=r"noise_TT\.wav exists already"):
        written_from(Racing(recorded(), SHARES), paths)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["noise_TT.wav"]
    assert paths["TT"].read_bytes() == b"mine"


def test_unknown_bit_depth(recorded, tmp_path):
    with pytest.raises(SettingsError, match="bit depth is 12"):
        written_from(Shares(recorded(), SHARES), paths_in(tmp_path), bit_depth="12")
