"""Files whose length no header states rightly: unfinished, streamed, cut, or made of several recordings."""

import os
import struct

import numpy as np
import pytest
import soundfile

from transform.audio import Recording
from transform.errors import AudioError
from transform.headers import chunks

RATE = 44_100
UNFINISHED = "its header was never finished: all that is there is read"


def noise(n_samples=5000, n_channels=2, seed=0):
    levels = np.random.default_rng(seed).integers(-(2**14), 2**14, (n_channels, n_samples))
    return (levels / 2**15).astype(np.float32)


def made(write_wav, name, sound=None, subtype="PCM_16"):
    """Return the path and the bytes of a file, and of its chunks the offsets."""
    path = write_wav(name, noise() if sound is None else sound, subtype=subtype)
    with path.open("rb") as file:
        places = {chunk: offset for chunk, _, offset in list(chunks(file))}
    return path, bytearray(path.read_bytes()), places


def assert_read(path, sound, caplog, note=None):
    with Recording.open(path) as recording:
        np.testing.assert_array_equal(recording.read(0, recording.n_samples), sound)
    said = [record.message for record in caplog.records]
    assert said == ([f"{path.name}: {note}"] if note else [])


# What is written where a size is not known: by recorders that crashed, AVAudioFile, sox, ffmpeg and others.
SIZES = [
    (0, 0),
    (4088, 0),
    (36, 0),
    (0x7FFFF024, 0x7FFFF000),
    (0x80000024, 0x80000000),
    (0xFFFFFFFF, 0xFFFFFFDB),
    (0xFFFFFFFF, 0xFFFFFFFF),
    (0x7FFFFFFF, 0x7FFFFFDB),
    (0xFFFFFFFE, 0xFFFFFFD0),
    (8, 0xFFFFF000),
]


@pytest.mark.parametrize(("riff", "data"), SIZES)
@pytest.mark.parametrize("n_left", [20_000, 19_998, 12_345 * 4 // 4 - 1])
def test_wav_of_unfinished_sizes_is_read_to_its_end(write_wav, caplog, riff, data, n_left):
    path, content, places = made(write_wav, "take.wav")
    struct.pack_into("<I", content, 4, riff)
    struct.pack_into("<I", content, places[b"data"] - 4, data)
    path.write_bytes(content[: places[b"data"] + n_left])
    assert_read(path, noise()[:, : n_left // 4], caplog, UNFINISHED)


@pytest.mark.parametrize("data", [0, 0xFFFFFFFF])
def test_chunks_behind_sound_of_unknown_length_are_none_of_it(write_wav, caplog, data):
    path, content, places = made(write_wav, "take.wav")
    struct.pack_into("<I", content, places[b"data"] - 4, data)
    behind = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"a recorder 1.0"
    path.write_bytes(bytes(content) + behind + b"id3 " + struct.pack("<I", 4000) + bytes(4000))
    assert_read(path, noise(), caplog, UNFINISHED)


def test_wav_whose_size_was_noted_on_the_way_is_read_to_its_end(write_wav, caplog):
    path, content, places = made(write_wav, "take.wav")
    struct.pack_into("<I", content, places[b"data"] - 4, 8000)
    struct.pack_into("<I", content, 4, places[b"data"] + 8000 - 8)
    path.write_bytes(content)
    assert_read(path, noise(), caplog, UNFINISHED)


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST" + struct.pack("<I", 5000) + bytes(5000),
        b"\0LIST" + struct.pack("<I", 5000) + bytes(5000),
        bytes(5000),
        b"TAG" + bytes(5000),
    ],
)
def test_what_lies_behind_the_sound_is_none(write_wav, caplog, behind):
    path, content, _ = made(write_wav, "take.wav")
    path.write_bytes(bytes(content) + behind)
    assert_read(path, noise(), caplog)


@pytest.mark.parametrize("n_missing", [8, 9, 4000])
def test_wav_that_is_cut_is_read_and_said(write_wav, caplog, n_missing):
    path, content, _ = made(write_wav, "cut.wav")
    path.write_bytes(content[:-n_missing])
    note = f"its end is missing, {n_missing:,} of 20,000 bytes of sound: all that is there is read"
    assert_read(path, noise()[:, : (20_000 - n_missing) // 4], caplog, note)


def test_wav_that_is_empty_is_refused(write_wav):
    path, content, places = made(write_wav, "empty.wav")
    struct.pack_into("<I", content, places[b"data"] - 4, 0)  # a chunk follows: it is as empty as it says
    list_chunk = b"LIST" + struct.pack("<I", 12) + b"INFOIART\0\0\0\0"
    path.write_bytes(bytes(content[: places[b"data"]]) + list_chunk)
    with pytest.raises(AudioError, match="holds no samples"):
        Recording.open(path)


def test_what_is_cut_in_a_form_that_is_not_known_is_refused(tmp_path):
    path = tmp_path / "cut.aifc"
    comm = struct.pack(">hIh", 1, 100, 16) + bytes.fromhex("400eac44000000000000") + b"ima4\0\0"
    body = b"AIFCCOMM" + struct.pack(">I", len(comm)) + comm + b"SSND" + struct.pack(">I", 5000) + bytes(1000)
    path.write_bytes(b"FORM" + struct.pack(">I", len(body) + 4000) + body)
    with pytest.raises(AudioError, match="cut short: 4,000 of 5,000 bytes of sound are missing"):
        Recording.open(path)


@pytest.mark.skipif(os.name == "nt", reason="needs sparse files")
@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, "wrapped"])
def test_wav_beyond_4_gib_whose_32_bits_were_too_few(write_wav, stated):
    path, content, places = made(write_wav, "long.wav", noise(1000))
    n_bytes = 2**32 + 2**20
    size = n_bytes % 2**32 if stated == "wrapped" else stated
    struct.pack_into("<I", content, places[b"data"] - 4, size)
    path.write_bytes(content[: places[b"data"] + 4000])
    os.truncate(path, places[b"data"] + n_bytes)
    with Recording.open(path) as recording:
        assert recording.n_samples == n_bytes // 4
        np.testing.assert_array_equal(recording.read(0, 1000), noise(1000))
        assert not recording.read(recording.n_samples - 1000, recording.n_samples).any()


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize("is_finished", [True, False])
def test_rf64_and_bw64(write_wav, caplog, magic, is_finished):
    path, content, places = made(write_wav, "take.rf64")
    content[:4] = magic
    if not is_finished:
        content[places[b"ds64"] : places[b"ds64"] + 24] = bytes(24)
        struct.pack_into("<I", content, places[b"data"] - 4, 0xFFFFFFFF)
    path = path.rename(path.with_suffix(".wav"))
    path.write_bytes(content)
    assert_read(path, noise(), caplog, None if is_finished else UNFINISHED)


@pytest.mark.parametrize("size", [0, 2**63 - 1, 2**64 - 1, 23])
@pytest.mark.parametrize("is_repeated", [False, True])
def test_wave64_from_a_pipe(write_wav, caplog, size, is_repeated):
    path, content, places = made(write_wav, "take.w64")
    data = places[b"data"]
    struct.pack_into("<Q", content, 16, size)
    struct.pack_into("<Q", content, data - 8, size)
    head, sound = bytes(content[:data]), bytes(content[data : data + 20_000])
    path.write_bytes(head * (1 + is_repeated) + sound + head * is_repeated)  # as sox does it
    assert_read(path, noise(), caplog, UNFINISHED)


@pytest.mark.parametrize(
    ("form", "frames", "data"), [(0, 0, 0), (0x7F000050, 0x1FC00000, 0x7F000008), (8, 0, 8)]
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_aiff_from_a_pipe(write_wav, caplog, form, frames, data, subtype):
    path, content, places = made(write_wav, "take.aiff", subtype=subtype)
    struct.pack_into(">I", content, 4, form)
    struct.pack_into(">I", content, places[b"COMM"] + 2, frames)
    struct.pack_into(">I", content, places[b"SSND"] - 4, data)
    path.write_bytes(content)
    assert_read(path, noise(), caplog, UNFINISHED)


@pytest.mark.parametrize(
    ("ending", "form", "size"), [("caf", ">q", -1), ("au", ">I", 2**32 - 1), ("au", ">I", 0)]
)
def test_caf_and_au_from_a_pipe(write_wav, caplog, ending, form, size):
    path, content, places = made(write_wav, f"take.{ending}")
    struct.pack_into(form, content, 8 if ending == "au" else places[b"data"] - 8, size)
    path.write_bytes(content)
    assert_read(path, noise(), caplog, UNFINISHED)


ID3 = b"ID3\4\0\0" + bytes([0, 0, 2, 44]) + bytes(300)


@pytest.mark.parametrize("between", [b"", ID3, b"APETAGEX" + bytes(300), b"TAG" + bytes(125)])
@pytest.mark.parametrize("is_counted", [True, False])
def test_flac_files_one_after_the_other_are_all_read(write_wav, caplog, between, is_counted):
    path, content, _ = made(write_wav, "two.flac", noise(20_000))
    if not is_counted:
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    path.write_bytes(bytes(content + between) * 2)
    note = "" if is_counted else "its header states no length: all that is there is read; "
    assert_read(path, np.tile(noise(20_000), 2), caplog, note + "2 recordings follow one another in it")


@pytest.mark.parametrize("behind", [b"", b"APETAGEX" + bytes(300), bytes(4096)])
@pytest.mark.parametrize(
    ("stated", "note"),
    [
        (5000, "its header states less than there is: all of it is read"),
        (44_100, "its end is missing: 0.45 of 1.00 s are there, and read"),
    ],
)
def test_flac_whose_header_states_less_or_more_than_there_is(write_wav, caplog, behind, stated, note):
    path, content, _ = made(write_wav, "take.flac", noise(20_000))
    content[22:26] = stated.to_bytes(4, "big")
    path.write_bytes(content + behind)
    assert_read(path, noise(20_000), caplog, note)


@pytest.mark.parametrize(("is_counted", "n_cut"), [(True, 0), (False, 0), (False, 3), (False, 5000)])
@pytest.mark.parametrize("tags", [b"", ID3, ID3 * 2])
def test_flac_behind_tags_and_without_a_length(write_wav, caplog, is_counted, tags, n_cut):
    path, content, _ = made(write_wav, "take.flac", noise(20_000))
    if not is_counted:
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    path.write_bytes(tags + content[: len(content) - n_cut])
    with Recording.open(path) as recording:
        n_samples = recording.n_samples
        assert n_samples == 20_000 if n_cut == 0 else 8000 < n_samples < 20_000
        np.testing.assert_array_equal(recording.read(0, n_samples), noise(20_000)[:, :n_samples])
    note = "take.flac: its header states no length: all that is there is read"
    assert [record.message for record in caplog.records] == ([] if is_counted else [note])


# MPEG


def mp3(path, clicks, mode="CONSTANT"):
    """Return the bytes of an MP3 file of clicks at 0.5 and 9.5 s of 10, its tag, and its frames without one."""
    sound = (
        0.02 * np.random.default_rng(0).standard_normal((10 * RATE, 2)) * np.linspace(0, 1, 10 * RATE)[:, None]
    )
    sound += clicks([0.5, 9.5], RATE, 2, 10.0).T
    with soundfile.SoundFile(
        path, "w", RATE, 2, format="MP3", bitrate_mode=mode, compression_level=0.4
    ) as file:
        file.write(sound)
    content = path.read_bytes()
    at = max(content.find(b"Xing"), content.find(b"Info")) - 36
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[content[at + 2] >> 4]
    n_tag = 144_000 * kbps // RATE + (content[at + 2] >> 1 & 1)
    return content, content[at : at + n_tag], content[at + n_tag :]


def onsets_s(path):
    """Return when the clicks of a recording begin, and how long it is."""
    with Recording.open(path) as recording:
        loud = np.flatnonzero(np.abs(recording.mono(0, recording.n_samples)) > 0.4)
        first = loud[np.diff(loud, prepend=-RATE) > RATE // 10]
        return first / recording.sample_rate, recording.duration_s


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_a_count_of_its_frames_is_read_to_its_end(tmp_path, clicks, mode):
    path = tmp_path / "plain.mp3"
    _, _, frames = mp3(path, clicks, mode)
    path.write_bytes(frames)
    onsets, length_s = onsets_s(path)
    assert length_s == pytest.approx(10.03, abs=0.04)  # an encoder fills up the last frame, and is late
    np.testing.assert_allclose(onsets, [0.5, 9.5], atol=0.03)
    with Recording.open(path) as recording:
        assert recording.n_samples % 1152 == 0


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_mp3_whose_tag_counts_one_frame_more_or_less_keeps_what_it_says_to_drop(tmp_path, clicks, more):
    path = tmp_path / "odd.mp3"
    whole, tag, _ = mp3(path, clicks)
    at = whole.index(tag) + 44
    count = int.from_bytes(whole[at : at + 4], "big") + more
    path.write_bytes(whole[:at] + count.to_bytes(4, "big") + whole[at + 4 :])
    onsets, length_s = onsets_s(path)
    assert length_s == 10.0
    np.testing.assert_allclose(onsets, [0.5, 9.5], atol=0.002)


@pytest.mark.parametrize("between", [b"", ID3, b"TAG" + bytes(125), ID3 + bytes(700)])
def test_mp3_files_one_after_the_other_are_all_read(tmp_path, clicks, between, caplog):
    path = tmp_path / "two.mp3"
    whole, tag, frames = mp3(path, clicks)
    path.write_bytes(ID3 + whole + between + tag + frames + b"TAG" + bytes(125))
    onsets, length_s = onsets_s(path)
    assert length_s == 20.0
    np.testing.assert_allclose(onsets, [0.5, 9.5, 10.5, 19.5], atol=0.002)
    assert caplog.messages == ["two.mp3: 2 recordings follow one another in it"]


@pytest.mark.parametrize("has_tag", [True, False])
def test_mp3_that_is_cut_is_read_as_far_as_it_goes(tmp_path, clicks, caplog, capfd, has_tag):
    path = tmp_path / "cut.mp3"
    whole, _, frames = mp3(path, clicks)
    content = whole if has_tag else frames
    path.write_bytes(content[: len(content) * 2 // 3 + 100])
    onsets, length_s = onsets_s(path)
    np.testing.assert_allclose(onsets, [0.5], atol=0.002 if has_tag else 0.03)
    assert length_s == pytest.approx(6.69, abs=0.07)
    (said,) = caplog.messages
    assert ("of its frames of sound are missing" if has_tag else "cut off in the middle of a frame") in said
    assert "all that is there is read" in said
    assert capfd.readouterr().err == ""  # the decoder has nothing to say of its own


def test_mp3_behind_much_that_is_none_is_read(tmp_path, clicks, capfd):
    path = tmp_path / "late.mp3"
    _, _, frames = mp3(path, clicks)
    path.write_bytes(bytes(200_000) + frames)
    np.testing.assert_allclose(onsets_s(path)[0], [0.5, 9.5], atol=0.03)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"It was a dark and stormy night. " * 500, bytes(100_000)])
def test_what_is_called_mp3_and_is_none_is_one_sentence(tmp_path, capfd, content):
    path = tmp_path / "novel.mp3"
    path.write_bytes(content)
    with pytest.raises(AudioError, match="not a sound file"):
        Recording.open(path)
    assert capfd.readouterr().err == ""


def test_mp3_in_a_wav_file(tmp_path, clicks):
    path = tmp_path / "loop.wav"
    _, _, frames = mp3(path, clicks)
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 2, RATE, 16_000, 1, 0, 12, 1, 2, 1152, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(frames)) + frames
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    onsets, length_s = onsets_s(path)
    np.testing.assert_allclose(onsets, [0.5, 9.5], atol=0.03)
    assert length_s == pytest.approx(10.03, abs=0.04)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM"])
@pytest.mark.parametrize("stated", ["of its writer", "half", "in the last block", "double"])
def test_adpcm_is_read_to_its_end_unless_that_lies_in_its_last_block(write_wav, n_channels, subtype, stated):
    sound = noise(22_050, n_channels)
    path, content, places = made(write_wav, "loop.wav", sound, subtype=subtype)
    fact = {"half": 11_025, "in the last block": 22_049, "double": 44_100}.get(stated)
    if fact is not None:
        struct.pack_into("<I", content, places[b"fact"], fact)
        path.write_bytes(content)
    with Recording.open(path) as recording:
        n_more = recording.n_samples - 22_050
        found = recording.read(0, 22_050)
    if fact == 22_049:
        assert n_more == -1
    else:
        assert 0 <= n_more < 4096  # the rest of a block
    assert np.abs(found[:, 21_000:22_049]).max() > 0.4
    assert np.corrcoef(found[0, 21_000:22_049], sound[0, 21_000:22_049])[0, 1] > 0.9


# Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_streams_one_after_the_other_are_all_read(tmp_path, clicks, subtype, caplog):
    path = tmp_path / "two.ogg"
    rate = 48_000
    soundfile.write(path, clicks([0.5, 2.5], rate, 2, 3.0).T, rate, subtype=subtype, format="OGG")
    path.write_bytes(path.read_bytes() * 2)
    onsets, length_s = onsets_s(path)
    assert length_s == 6.0
    np.testing.assert_allclose(onsets, [0.5, 2.5, 3.5, 5.5], atol=0.002)
    assert caplog.messages == ["two.ogg: 2 recordings follow one another in it"]


def test_ogg_streams_of_two_forms_are_refused(tmp_path):
    path = tmp_path / "two.ogg"
    contents = []
    for rate in (RATE, 48_000):
        soundfile.write(path, noise(rate).T, rate, subtype="VORBIS", format="OGG")
        contents.append(path.read_bytes())
    path.write_bytes(b"".join(contents))
    with pytest.raises(AudioError, match=r"changes from 44100 Hz, 2 channels to 48000 Hz, .* at 1\.000 s"):
        Recording.open(path)


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), bytes(3000)])
def test_a_tag_behind_ogg_and_between_streams_is_no_missing_end(tmp_path, clicks, behind, caplog):
    path = tmp_path / "two.ogg"
    soundfile.write(path, clicks([0.5], RATE, 2, 1.0).T, RATE, subtype="VORBIS", format="OGG")
    path.write_bytes((path.read_bytes() + behind) * 2)
    assert onsets_s(path)[1] == 2.0
    assert caplog.messages == ["two.ogg: 2 recordings follow one another in it"]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("kept", [0.9, 0.6, 0.3])
def test_ogg_whose_end_is_missing_is_read_and_said(tmp_path, clicks, subtype, kept, caplog):
    path = tmp_path / "cut.ogg"
    rate = 48_000
    sound = clicks([0.5, 9.5], rate, 2, 10.0) + 0.05 * noise(10 * rate)
    soundfile.write(path, sound.T, rate, subtype=subtype, format="OGG")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    onsets, length_s = onsets_s(path)
    np.testing.assert_allclose(onsets, [0.5], atol=0.002)
    assert 10 * kept - 2.5 < length_s < 10 * kept + 0.5
    assert caplog.messages == ["cut.ogg: its end is missing: all that is there is read"]
