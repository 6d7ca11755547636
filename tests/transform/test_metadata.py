"""What a WAV file states beside its sound, in the results that are made of it."""

import struct

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, decaying_noise, rhythm_of
from transform.audio import Recording, write_audio
from transform.audio_writing import PartFile, store_parts
from transform.engine import Redrummer
from transform.events import CLASSES, DrumEvent
from transform.headers import chunks, time_reference
from transform.metadata import read_metadata
from transform.mic_files import MicFiles, write_mics
from transform.mics import MicRecording
from transform.settings import RenderSettings
from transform.stated_tempo import stated_tempo
from transform.stem_files import write_stems

RATE = 48_000
BEGIN = (5 << 32) + 123_456  # samples since midnight
UMID, LOUDNESS = bytes(range(64)), struct.pack("<5h", -2300, 700, -100, -1800, -2000)
IXML = (
    "<?xml version='1.0' encoding='UTF-8'?><BWFXML><PROJECT>Trümmer</PROJECT><SCENE>7</SCENE>"
    "<FILE_UID>ABC123</FILE_UID><SPEED><AUDIO_BIT_DEPTH>24</AUDIO_BIT_DEPTH>"
    "<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>5</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>"
    "<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>123456</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO></SPEED></BWFXML>"
).encode()


def bext(begin=BEGIN):
    texts = b"a take".ljust(256, b"\0") + b"a recorder".ljust(32, b"\0") + b"REF1".ljust(32, b"\0")
    date = b"2026-11-30" + b"12:00:00"
    history = b"A=PCM,F=48000,W=24\r\n"
    return texts + date + struct.pack("<QH", begin, 2) + UMID + LOUDNESS + bytes(180) + history


def acid(tempo):
    return struct.pack("<IHHfIHHf", 0, 60, 0x8000, 0.0, 8, 4, 4, tempo)


def with_chunks(path, **contents):
    """Add chunks to a WAV file, and return its path."""
    content = path.read_bytes()
    for name, more in contents.items():
        content += name.ljust(4).encode() + struct.pack("<I", len(more)) + more + bytes(len(more) % 2)
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    return path


def everything(n_samples, begin=BEGIN, tempo=97.0):
    cue = struct.pack("<IIIIIII", 1, 1, 4800, int.from_bytes(b"data", "little"), 0, 0, 4800)
    label = b"adtl" + b"labl" + struct.pack("<I", 8) + struct.pack("<I", 1) + b"hit\0"
    smpl = struct.pack("<9I", 0, 0, 20_833, 60, 0, 0, 0, 1, 0) + struct.pack(
        "<6I", 0, 0, 0, n_samples - 1, 0, 0
    )
    return {"bext": bext(begin), "iXML": IXML, "acid": acid(tempo), "cue": cue, "LIST": label, "smpl": smpl}


def stated(path):
    """Return the chunks of a WAV file, after checking that its sizes are right."""
    found = {}
    with path.open("rb") as file:
        for name, size, offset in list(chunks(file)):
            file.seek(offset)
            found[name.decode().strip()] = file.read(size)
            end = offset + size + size % 2
        assert file.seek(0, 2) == end
    assert int.from_bytes(path.read_bytes()[4:8], "little") == end - 8
    return found


@pytest.fixture
def source(write_wav, clicks):
    """Return a path of clicks at 0.5 and 1.25 s of 2 that states everything, and what redrums it."""
    path = write_wav("source.wav", clicks([0.5, 1.25], RATE, 2, 2.0), RATE, "PCM_24")
    heard = [DrumEvent(0.507, "SD", 0.9), DrumEvent(1.243, "SD", 0.9)]
    return with_chunks(path, **everything(2 * RATE)), Redrummer(HeardEverything({"source": heard}))


class Halves:
    """Stems of a recording that are made: two halves of it, and silence."""

    def __init__(self, recording):
        self.recording = recording

    def read(self, start, stop):
        shares = np.array([0.5, 0.5, 0, 0, 0], np.float32)[:, None, None]
        return shares * self.recording.read(start, stop)


def test_stems_state_what_their_recording_does(source, tmp_path):
    paths = {drum_class: tmp_path / f"{drum_class}.wav" for drum_class in CLASSES}
    with Recording.open(source[0]) as recording:
        write_stems(recording, Halves(recording), paths)
    before = stated(source[0])
    for path in paths.values():
        after = stated(path)
        assert time_reference(path) == BEGIN
        assert {name: after[name] for name in ("acid", "cue", "smpl", "LIST")} == {
            name: before[name] for name in ("acid", "cue", "smpl", "LIST")
        }
        assert after["iXML"] == IXML.replace(b"ABC123", b"")  # the number of that very file
        assert after["bext"][:348] == before["bext"][:348]
        assert after["bext"][348:422] == bytes(64) + struct.pack("<h", 0x7FFF) * 5  # nor its loudness
        assert after["bext"][422:] == before["bext"][422:]
        assert soundfile.info(path).frames == 2 * RATE


@pytest.mark.parametrize(
    ("length_s", "has_loop", "n_beats"), [(2.0, True, 4), (1.0, False, 2), (1.1, False, 0)]
)
def test_take_states_its_own_tempo_and_no_marks_of_other_strokes(source, tmp_path, length_s, has_loop, n_beats):
    path, redrummer = source
    rhythm = rhythm_of(0.25, length_s=length_s, bpm=120.0)
    with Recording.open(path) as recording:
        take = redrummer.redrum(recording, rhythm, RenderSettings(align="seconds"))
        take.write(tmp_path / "take.wav")
        take.write(tmp_path / "take16.wav", bit_depth="16")
    after = stated(tmp_path / "take.wav")
    assert set(after) - {"fmt", "data"} == {"bext", "iXML", "acid"} | ({"smpl"} if has_loop else set())
    assert struct.unpack("<I8xIHHf", after["acid"]) == (0, n_beats, 4, 4, 120.0)
    assert time_reference(tmp_path / "take.wav") == BEGIN
    assert b"<AUDIO_BIT_DEPTH>16<" in stated(tmp_path / "take16.wav")["iXML"]
    with Recording.open(tmp_path / "take.wav") as result:
        assert result.tempo_bpm() == (120.0, "acid tag")


@pytest.mark.parametrize(
    ("ending", "where"), [("flac", "BPM tag"), ("aif", "BPM tag"), ("caf", "BPM tag"), ("w64", None)]
)
@pytest.mark.parametrize("bpm", [100.0, 97.25, 86.0])
def test_takes_in_other_containers_state_their_tempo_too(source, tmp_path, ending, where, bpm):
    path, redrummer = source
    target = tmp_path / f"loop_hip-hop-bounce-140.{ending}"
    with Recording.open(path) as recording:
        take = redrummer.redrum(recording, rhythm_of(0.25, bpm=bpm), RenderSettings(align="seconds"))
        take.write(target)
        sound = take.read(0, take.n_samples)
    with Recording.open(target) as result:
        assert result.tempo_bpm() == (where and (bpm, where))
        np.testing.assert_allclose(result.read(0, result.n_samples), sound, atol=2**-24)
    content = target.read_bytes()
    if ending == "flac":
        assert b"\0\0\0" + f"BPM={bpm:g}".encode() in content
        assert b"comment" not in content
    take.write(target, overwrite=True)
    assert target.read_bytes() == content


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_the_tempo_in_a_tag_goes_before_the_name(tmp_path, clicks, subtype):
    path = tmp_path / "loop 120bpm.ogg"
    with soundfile.SoundFile(path, "w", RATE, 1, format="OGG", subtype=subtype) as file:
        file.comment = "X" * 20
        file.write(clicks([0.5], RATE).T)
    content = path.read_bytes()
    entry = b"\x1c\0\0\0" + (b"comment=" if b"comment=" in content else b"COMMENT=") + b"X" * 20
    assert entry in content
    tags = b"\x08\0\0\0bpm=93.5\x10\0\0\0NOTE=BPM=ABCDEFG"
    path.write_bytes(content.replace(entry, tags))  # the page's checksum is not looked at
    assert stated_tempo(path, path.stem) == (93.5, "BPM tag")


def test_take_whose_tempo_is_not_known_states_none(source, tmp_path):
    path, redrummer = source
    with Recording.open(path) as recording:
        redrummer.redrum(recording, rhythm_of(0.25)).write(tmp_path / "take.wav")
    assert "acid" not in stated(tmp_path / "take.wav")


def test_results_of_microphones_begin_with_the_first_of_them(write_wav, tmp_path):
    recordings = []
    for name, begin, rate in (("a", BEGIN, RATE), ("b", BEGIN + RATE // 2, RATE)):
        sound = np.concatenate([decaying_noise(rate, 0.5, 0.05)] * 4)
        path = write_wav(f"{name}.wav", sound, rate, "PCM_24")
        recordings.append(Recording.open(with_chunks(path, **everything(len(sound), begin))))
    group = MicRecording.of(recordings)
    heard = [DrumEvent(t, "SD", 0.9) for t in (0.5, 1.0, 1.5)]
    take = Redrummer(HeardEverything({group.name: heard})).redrum(
        group, rhythm_of(0.25, length_s=1.0, bpm=90.0)
    )
    paths = [tmp_path / "ra.wav", tmp_path / "rb.wav"]
    write_mics(take, group, MicFiles(takes=paths))
    assert [time_reference(path) for path in paths] == [BEGIN, BEGIN]
    low = b"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>%d<"
    assert [
        low % (123_456 - moved) in stated(path)["iXML"] for path, moved in zip(paths, (0, 24_000), strict=True)
    ]
    for recording in recordings:
        recording.close()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize(("n_channels", "speakers"), [(2, 0x3), (6, 0x60F), (4, 0), (6, 0xC000003F)])
def test_an_extensible_file_stays_one_with_its_channel_mask(tmp_path, clicks, subtype, n_channels, speakers):
    path, copy, part = tmp_path / "wide.wav", tmp_path / "copy.wav", tmp_path / "part.wav"
    soundfile.write(path, clicks([0.5], RATE, n_channels).T, RATE, format="WAVEX", subtype=subtype)
    content = bytearray(path.read_bytes())
    at = content.index(b"fmt ") + 8
    content[at + 20 : at + 24] = struct.pack("<I", speakers)
    path.write_bytes(content)
    with Recording.open(path) as recording:
        sound = recording.read(0, recording.n_samples)
        write_audio(copy, [sound], recording.format)
        file = PartFile(path=part, temporary=part, subtype=subtype)
        store_parts([file], [sound[None]], recording.format, n_samples=recording.n_samples)
    for result in (copy, part):
        assert stated(result)["fmt"] == bytes(content[at : at + 40])
        np.testing.assert_array_equal(soundfile.read(result, dtype="float32")[0].T, sound)


def test_a_plain_file_stays_plain(source, tmp_path):
    with Recording.open(source[0]) as recording:
        write_audio(tmp_path / "copy.wav", [recording.read(0, 100)], recording.format)
    assert stated(tmp_path / "copy.wav")["fmt"] == stated(source[0])["fmt"]


def test_chunks_that_are_broken_or_huge_are_left_out(write_wav, clicks):
    path = write_wav("odd.wav", clicks([0.1]), RATE)
    with_chunks(
        path, bext=b"short", acid=b"\0" * 8, iXML=bytes(2**20 + 2), LIST=b"adtl" + bytes(8), cue=bytes(4)
    )
    assert [name for name, _ in read_metadata(path).chunks] == [b"LIST", b"cue "]


def test_what_is_stated_is_added_to_rf64_too(write_wav, clicks, tmp_path, monkeypatch):
    monkeypatch.setattr("transform.audio_writing._WAV_LIMIT_BYTES", 100_000)
    path = with_chunks(write_wav("long.wav", clicks([0.5]), RATE), **everything(RATE))
    paths = {drum_class: tmp_path / f"{drum_class}.wav" for drum_class in CLASSES}
    with Recording.open(path) as recording:
        write_stems(recording, Halves(recording), paths)
    content = paths["KD"].read_bytes()
    assert content[:4] == b"RF64"
    assert struct.unpack("<Q", content[20:28])[0] == len(content) - 8
    assert time_reference(paths["KD"]) == BEGIN
