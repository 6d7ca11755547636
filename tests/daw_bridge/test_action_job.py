"""The process that REAPER's action starts: whatever becomes of a job stands in its files."""

import json

import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.action_job import run_job
from daw_bridge.commands.cli import app
from daw_bridge.job_files import JobFiles, JobProgress
from transform.engine import Redrummer
from transform.errors import DawError, OutputError

RHYTHM = "bossa-nova-132"


@pytest.fixture(autouse=True)
def _no_models(monkeypatch, redrummer, tmp_path):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)


@pytest.fixture
def job(tmp_path, write_wav, clicks):
    """Return a function that writes a job with one item, changed as told, and returns its files."""
    loop = write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))
    media = tmp_path / "media"
    take = {
        "name": "loop.wav",
        "start_offset_s": 0.0,
        "play_rate": 1.0,
        "keeps_pitch": True,
        "channel_mode": 0,
        "markers": [],
        "is_midi": False,
        "file": str(loop),
    }
    item = {"id": "{1}", "track": 0, "is_selected": True, "position_s": 1.0, "length_s": 0.75}
    facts = {
        "project": "userdata: 0x1",
        "path": str(tmp_path / "song.rpp"),
        "media_folder": str(media),
        "bpm": 120.0,
        "points": [],
        "tracks": [{"id": "{2}", "name": "dr\udcfcms", "color": 0}],
        "items": [{**item, "is_muted": False, "is_looped": False, "take": take}],
    }

    def write(change=lambda data: None):
        data = {"schema": 1, "order": {"rhythm": RHYTHM}, "facts": facts}
        change(data)
        files = JobFiles(tmp_path / "123-000001.json")
        files.job.write_bytes(json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogateescape"))
        return files

    return write


def read(path):
    return json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))


def run(files):
    return CliRunner().invoke(app, ["reaper", "run-job", str(files.job)], prog_name="redrum")


def test_a_job_is_done(job, tmp_path):
    files = job()
    assert run(files).exit_code == 0
    result = read(files.result)
    (track,) = result["tracks"]
    (item,) = track["items"]
    assert (result["schema"], result["status"], result["message"]) == (1, "done", "")
    assert (track["id"], track["name"], track["color"]) == ("{2}", "dr\udcfcms redrum", 0)
    assert (item["name"], item["position_s"], item["length_s"]) == ("loop-redrum", 1.0, 0.75)
    assert result["media"] == [item["file"]]
    assert soundfile.info(item["file"]).frames == 33_075  # 0.75 s: as long as its source
    assert {path.name for path in tmp_path.iterdir()} >= {"123-000001.progress.json", "123-000001.result.json"}
    assert not list(tmp_path.rglob("*.part"))


def test_progress_goes_on_with_the_items(job):
    files = job()
    with JobProgress(files) as progress:
        first = read(files.progress)
        progress.expect(2)
        progress.update("transcribe source", 0.0)
        progress.update("render", 0.5)
        half = read(files.progress)
        progress.item_is_done()
        progress.update("render", 0.0)
        second = read(files.progress)
    assert first["text"] == "Redrum is loading..."
    assert (half["text"], half["share"]) == ("Item 1 of 2: rendering...", 0.35)
    assert (second["text"], second["share"]) == ("Item 2 of 2: rendering...", 0.7)
    assert first["beat"] < half["beat"] < second["beat"]


def test_a_job_that_is_to_end_ends(job):
    files = job()
    files.cancel.touch()
    assert run(files).exit_code == 130
    assert read(files.result)["status"] == "cancelled"
    assert not files.cancel.with_name("media").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data.update(schema=2), "The job is not of version 1.\nQuit the DAW and run"),
        (lambda data: data.pop("order"), "The job is broken: KeyError('order')."),
        (lambda data: data["facts"]["items"][0].pop("length_s"), "The job is broken"),
        (lambda data: data["facts"].update(bpm=0.0), "The project has a tempo of 0.0 BPM"),
        (lambda data: data["facts"]["items"][0].update(position_s=float("nan")), "has a time that is none"),
        (lambda data: data["facts"].update(items=[]), "No audio item is selected.\nSelect the drum recordings"),
        (lambda data: data["facts"].update(media_folder=""), "The project has no folder for its media."),
    ],
)
def test_a_job_that_cannot_be_done_says_why(job, change, sentence):
    files = job(change)
    assert run(files).exit_code == 3
    result = read(files.result)
    assert result["status"] == "failed"
    assert result["message"].startswith(sentence) or sentence in result["message"]
    assert "tracks" not in result


def test_what_is_no_job_says_why(tmp_path, redrummer):
    for text, sentence in (("{", "no JSON"), ("[]", "not of version 1"), ("\ufeff", "no JSON")):
        files = JobFiles(tmp_path / f"{len(sentence)}.json")
        files.job.write_text(text, encoding="utf-8")
        with pytest.raises(DawError, match=sentence):
            run_job(files.job, lambda: redrummer)
        assert sentence in read(files.result)["message"]
        files.result.unlink()


def test_without_a_result_nothing_is_published(job, monkeypatch, redrummer):
    files = job()
    put = JobFiles.put

    def full(self, path, data):
        if path == files.result:
            raise OutputError("the disk is full")
        put(self, path, data)

    monkeypatch.setattr(JobFiles, "put", full)
    with pytest.raises(OutputError, match="full"):
        run_job(files.job, lambda: redrummer)
    assert not list((files.job.parent / "media").iterdir())
    assert not files.result.exists()


def test_a_progress_file_in_use_stops_nothing(job, monkeypatch, redrummer):
    files = job()
    put = JobFiles.put

    def in_use(self, path, data):
        if path == files.progress:
            raise OutputError("the file is in use")
        put(self, path, data)

    monkeypatch.setattr(JobFiles, "put", in_use)
    assert run_job(files.job, lambda: redrummer)
    assert read(files.result)["status"] == "done"
