"""Formats that only ffmpeg reads, and what it must not be led to."""

import os
import struct
import subprocess
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from transform import ffmpeg
from transform.audio import Recording, resolve_output
from transform.errors import AudioError

RATE = 44_100
needs_ffmpeg = pytest.mark.skipif(ffmpeg.find_ffmpeg() is None, reason="needs ffmpeg on the PATH")


@pytest.fixture
def encoded(tmp_path, clicks):
    """Return a function that encodes clicks at 0.5 and 2.5 s of 3 with ffmpeg."""

    def encode(name, *options, subtype="PCM_16"):
        soundfile.write(tmp_path / "source.wav", clicks([0.5, 2.5], RATE, 2, 3.0).T, RATE, subtype=subtype)
        command = [ffmpeg.find_ffmpeg(), "-nostdin", "-loglevel", "error", "-i", "source.wav", *options, name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        if "Unknown encoder" in done.stderr:
            pytest.skip(f"this ffmpeg cannot write {name}")
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    return encode


LOSSLESS = [
    ("loop.m4a", ["-c:a", "alac"], "PCM_16"),
    ("loop.m4a", ["-c:a", "alac", "-sample_fmt", "s32p"], "PCM_24"),
    ("loop.wv", ["-c:a", "wavpack"], "PCM_16"),
    ("loop.tta", [], "PCM_16"),
    ("loop.oga", ["-c:a", "flac"], "PCM_16"),
    ("loop.caf", ["-c:a", "alac"], "PCM_16"),
]


@needs_ffmpeg
@pytest.mark.parametrize(("name", "options", "subtype"), LOSSLESS)
def test_what_is_lossless_comes_back_bit_by_bit(encoded, name, options, subtype):
    path = encoded(name, *options, subtype=subtype)
    with Recording.open(path) as recording:
        assert (recording.format.subtype, recording.format.is_lossy) == (subtype, False)
        stored = soundfile.read(path.with_name("source.wav"), dtype="float32")[0].T
        np.testing.assert_array_equal(recording.read(0, recording.n_samples), stored)
        np.testing.assert_array_equal(recording.read(100_000, 100_500), stored[:, 100_000:100_500])


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options", "most_s"),
    [
        ("loop.m4a", [], 0.0005),  # its edit list says what of its frames is sound
        ("loop.mp4", [], 0.0005),
        ("loop.aac", [], 0.05),
        ("loop.wma", [], 0.1),
        ("loop.mka", ["-c:a", "aac"], 0.05),
        ("loop.wav", ["-c:a", "g726", "-ac", "1", "-ar", "8000", "-b:a", "32k"], 0.05),
        ("loop.w64", ["-c:a", "wmav2"], 0.2),
    ],
)
def test_what_is_lossy_has_its_strokes_where_they_are(encoded, name, options, most_s):
    with Recording.open(encoded(name, *options)) as recording:
        assert recording.format.is_lossy
        assert resolve_output(recording.path.with_suffix(".wav"), recording.format, None) == ("WAV", "PCM_24")
        assert recording.duration_s == pytest.approx(3.0, abs=most_s)
        mono = np.abs(recording.mono(0, recording.n_samples))
        for onset_s in (0.5, 2.5):
            rate = recording.sample_rate
            near = round((onset_s - 0.1) * rate)
            assert (near + mono[near : near + rate // 5].argmax()) / rate == pytest.approx(onset_s, abs=0.05)


@needs_ffmpeg
def test_what_is_opened_again_is_decoded_when_it_is_read(encoded, monkeypatch):
    path = encoded("loop.m4a")
    with Recording.open(path) as recording:
        n_samples, sound = recording.n_samples, recording.read(0, recording.n_samples)
    n_run = []
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **options: n_run.append(args) or real(*args, **options)
    )
    with Recording.open(path) as recording:
        assert recording.n_samples == n_samples
        assert not n_run
        np.testing.assert_array_equal(recording.read(0, n_samples), sound)
        recording.read(5, 10)
    assert len(n_run) == 1


@needs_ffmpeg
def test_what_is_cut_short_is_said_and_what_is_broken_refused(encoded, caplog):
    path = encoded("loop.m4a", "-movflags", "+faststart")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with Recording.open(path) as recording:
        assert 0.5 < recording.duration_s < 2.5
    assert f"its end is missing: {recording.duration_s:.2f} of 3.00 s are there, and read" in caplog.text
    path.write_bytes(content[:200] + bytes(3000))
    with pytest.raises(
        AudioError, match=r"loop\.m4a, an MP4 or M4A file .* cannot be decoded by ffmpeg: "
    ) as caught:
        Recording.open(path)
    assert str(path) not in caught.value.message
    assert "WAV" in caught.value.hint


@needs_ffmpeg
@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_LONGEST_S"])
def test_what_would_be_too_long_is_given_up(encoded, monkeypatch, limit):
    path = encoded("loop.wv")
    monkeypatch.setattr(ffmpeg, limit, 1.0)
    with pytest.raises(AudioError, match=r"loop\.wv is too long"):
        Recording.open(path)


@needs_ffmpeg
def test_what_takes_too_long_is_given_up(encoded, monkeypatch, tmp_path):
    path = encoded("loop.wv")
    slow = tmp_path / "bin" / "ffmpeg"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(ffmpeg, "_LONGEST_RUN_S", 0.5)
    with pytest.raises(AudioError, match="takes ffmpeg more than"):
        Recording.open(path)


@pytest.mark.parametrize("path_folders", ["/nowhere", "", "."])
def test_without_ffmpeg_it_is_named_and_none_of_the_current_folder_is_run(tmp_path, monkeypatch, path_folders):
    path = tmp_path / "loop.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(2000))
    strange = tmp_path / "ffmpeg"
    strange.write_text(f"#!/bin/sh\ntouch '{tmp_path}/was-run'\n")
    strange.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path_folders)
    with pytest.raises(AudioError, match="which is read through ffmpeg, and there is none") as caught:
        Recording.open(path)
    assert "install ffmpeg" in caught.value.hint
    assert not (tmp_path / "was-run").exists()


def test_damaged_sound_that_is_not_compressed_is_no_task_for_ffmpeg(write_wav, clicks, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, "Popen", None)
    for name, subtype in (("a.wav", "PCM_16"), ("b.wav", "FLOAT"), ("c.caf", "PCM_24"), ("d.w64", "PCM_16")):
        path = write_wav(name, clicks([0.5]), subtype=subtype)
        content = bytearray(path.read_bytes())
        at = (
            content.find(b"desc") + 36
            if name == "c.caf"
            else content.find(b"fmt ") + (26 if "w64" in name else 10)
        )
        content[at : at + 4] = bytes(4)  # no channels
        path.write_bytes(content)
        with pytest.raises(AudioError) as caught:
            Recording.open(path)
        assert "ffmpeg" not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:source.wav\n",
        b"ffconcat version 1.0\nfile source.wav\n",
        b"http://localhost:1/loop.m4a\n",
        b'<?xml version="1.0"?><MPD><Period><BaseURL>source.wav</BaseURL></Period></MPD>',
        b"[playlist]\nFile1=source.wav\n",
        b"concat:source.wav",
    ],
)
def test_a_playlist_or_address_called_m4a_opens_nothing(write_wav, clicks, monkeypatch, content):
    path = write_wav("source.wav", clicks([0.5])).with_name("loop.m4a")
    path.write_bytes(content)
    monkeypatch.setattr(subprocess, "Popen", None)  # not even ffmpeg
    with pytest.raises(AudioError, match=r"loop\.m4a is not a sound file that can be read"):
        Recording.open(path)


def with_reference(content, other):
    """Return a QuickTime file whose sound lies in another one, and silence in its place."""
    at = content.index(b"url \0\0\0\x01") - 4
    path = os.fsencode(other)
    path += b"\0" * (len(path) % 2)
    alias = bytes(10) + b"\3vol".ljust(28, b"\0") + bytes(12) + b"\1x".ljust(64, b"\0") + bytes(16)
    alias += struct.pack(">HH16xHH", 1, 1, 2, len(path)) + path + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    for name in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        start = content.rindex(name, 0, at) - 4
        size = int.from_bytes(content[start : start + 4], "big") + len(entry) - 12
        content = content[:start] + size.to_bytes(4, "big") + content[start + 4 :]
    content = content[:at] + entry + content[at + 12 :]
    mdat = content.index(b"mdat") + 4
    n_sound = int.from_bytes(content[mdat - 8 : mdat - 4], "big") - 8
    return content[:mdat] + bytes(n_sound) + content[mdat + n_sound :]


@needs_ffmpeg
def test_a_reference_to_another_file_is_not_followed(encoded):
    path = encoded("loop.mov", "-c:a", "pcm_s16le")
    other = path.rename(path.with_name("other.mov"))
    path.write_bytes(with_reference(other.read_bytes(), other))
    command = [ffmpeg.find_ffmpeg(), "-loglevel", "error", "-enable_drefs", "1", "-i", path, "-f", "s16le", "-"]
    followed = subprocess.run(command, capture_output=True).stdout
    assert np.frombuffer(followed, np.int16).any()  # it is one that ffmpeg would follow
    with suppress(AudioError), Recording.open(path) as recording:
        assert not recording.read(0, recording.n_samples).any()
