"""What works on this machine and what does not, each failure with its cure."""

import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from daw_bridge.checks import Check, ProblemError, checked
from transform.files import check_output

if TYPE_CHECKING:
    from transform.engine import Redrummer

LEAST_FREE_BYTES = 10**9
_TOO_SLOW = 0.2  # x real time
_MEASURED_S = 2.0  # so long at least the speed is measured
_AGAIN = "install Redrum again, in a new virtual environment"


def examine(device: str = "auto") -> Iterator[Check]:
    """Yield one check after the other, the quick ones first; none of them raises.

    Args:
        device: where the speed is measured.
    """
    from daw_bridge.live.install import summary as live_summary
    from transform.presets import list_presets

    yield checked("redrum", _redrum, _AGAIN)
    yield checked("torch", _torch, "pip install 'torch>=2.11,<2.15'; Intel Macs have no such package")
    yield checked("audio files", _audio_files, "pip install --force-reinstall soundfile soxr")
    yield checked("MIDI files", _midi_files, "pip install --force-reinstall mido")
    yield from _reaper()
    yield live_summary()
    yield from _ardour()
    names: list[str] = []
    try:
        names = list_presets()
    except OSError as err:
        yield Check(name="presets", status="failed", found=str(err), cure=_AGAIN)
    for name in names:
        yield checked(f"preset {name}", partial(_preset, name), _AGAIN)
    for what, folder in _folders().items():
        yield checked(what, partial(_disk, folder), "make room, or use another disk")
    yield checked("speed", lambda: _speed(device), "see what failed above; -v tells more")


def _redrum() -> str:
    return f"{version('latent-redrum')} on Python {platform.python_version()}, {platform.platform(terse=True)}"


def _torch() -> str:
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append(f"cuda ({torch.cuda.get_device_name()})")
    if torch.backends.mps.is_available():
        devices.append("mps")
    if float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) != 8:
        raise ProblemError("it computes wrongly", hint=_AGAIN)
    return f"{torch.__version__}, devices: {', '.join(devices)}"


def _audio_files() -> str:
    import numpy as np
    import soundfile
    import soxr

    from transform.audio import AudioFormat, Recording, write_audio
    from transform.ffmpeg import find_ffmpeg

    sound = np.linspace(-0.5, 0.5, 4410, dtype=np.float32)[None]
    with tempfile.TemporaryDirectory(prefix="redrum-") as folder:
        path = Path(folder) / "ドラム.wav"
        write_audio(path, [sound], AudioFormat(sample_rate=44_100, n_channels=1, subtype="PCM_24"))
        with Recording.open(path) as recording:
            if np.abs(recording.read(0, 4410) - sound).max() > 2**-23:
                raise ProblemError("what is written is not what is read", hint=_AGAIN)
            if sum(map(len, recording.mono_blocks(48_000))) != 4800:
                raise ProblemError("sample rates are converted wrongly", hint=_AGAIN)
    ffmpeg = find_ffmpeg() or "no ffmpeg, through which M4A, WMA and others are read"
    return f"libsndfile {soundfile.__libsndfile_version__}, soxr {soxr.__version__}, {ffmpeg}"


def _midi_files() -> str:
    from transform.library import list_rhythms
    from transform.midi import read_midi

    rhythms = list_rhythms()
    read_midi(rhythms[0].path)
    return f"mido {version('mido')}, {len(rhythms)} rhythms"


def _reaper() -> Iterator[Check]:
    """Yield the checks of the actions in REAPER; one where REAPER or the actions are not there."""
    from daw_bridge.reaper.doctor import ACTIONS, examine_reaper, is_installed
    from daw_bridge.reaper.install import reaper_folder

    folder = reaper_folder()
    if is_installed(folder):
        yield from examine_reaper(folder)
    else:
        cure = "quit REAPER and run `redrum reaper install`, if you use REAPER"
        yield Check(name=ACTIONS, status="absent", found=f"none in {folder}", cure=cure)


def _ardour() -> Iterator[Check]:
    """Yield the checks of the actions in each Ardour; one where Ardour or the actions are not there."""
    from daw_bridge.ardour.doctor import NAME, examine_ardour, is_installed
    from daw_bridge.ardour.install import ardour_folders

    folders = [folder for folder in ardour_folders() if is_installed(folder)]
    for folder in folders:
        yield from examine_ardour(folder)
    if not folders:
        cure = "quit Ardour and run `redrum ardour install`, if you use Ardour"
        yield Check(name=NAME, status="absent", found="none is installed", cure=cure)


def _preset(name: str) -> str:
    from transform.presets import load_preset

    preset = load_preset(name)
    for model in preset.models:
        preset.weights(model)
    return f"{', '.join(preset.models)}; sha256 {preset.sha256[:12]}, in {preset.folder}"


def _folders() -> dict[str, Path]:
    from transform.presets import user_folder

    return {
        "results": Path.cwd(),
        "your rhythms and presets": user_folder(),
        "temporary files": Path(tempfile.gettempdir()),
    }


def _disk(folder: Path) -> str:
    check_output(folder / "result.wav", overwrite=True)
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(place).free
    if free < LEAST_FREE_BYTES:
        raise ProblemError(f"{free / 1e9:.1f} GB are free in {folder}", hint="make room, or use another disk")
    return f"{free / 1e9:.0f} GB free in {folder}"


def _speed(device: str) -> str:
    """Return how fast a shipped loop is redrummed as `redrum render` does it, once everything is warm."""
    import torch

    from daw_bridge.devices import n_cores, set_up_device
    from transform.engine import Redrummer

    device = set_up_device(device, None)
    redrummer = Redrummer.load(device=device)
    began_s = time.perf_counter()
    factor, length_s = _factor(redrummer)  # what is computed for the first time takes longer
    while time.perf_counter() - began_s < _MEASURED_S:
        factor = max(factor, _factor(redrummer)[0])
    if factor < _TOO_SLOW:
        raise ProblemError(
            f"{factor:.2f} x real time on {device}",
            hint="close other programs, or use a GPU with --device cuda",
        )
    with_cores = f" with {torch.get_num_threads()} of {n_cores()} cores, as render" if device == "cpu" else ""
    of_loop = f"a loop of {length_s:.1f} s; a minute of music is quicker for its length"
    return f"{factor:.1f} x real time on {device}{with_cores}: {of_loop}"


def _factor(redrummer: "Redrummer") -> tuple[float, float]:
    """Return how many seconds of a take are made a second, and how long the take is, in seconds."""
    from transform.audio import Recording
    from transform.library import demo_recordings, find_rhythm
    from transform.midi import read_midi
    from transform.settings import RenderSettings

    rhythm = read_midi(find_rhythm("hip-hop-bounce-140").path)
    with Recording.open(demo_recordings()[0].path) as loop:
        began_s = time.perf_counter()
        for _ in redrummer.redrum(loop, rhythm, RenderSettings(length="source")).blocks():
            pass
        return loop.duration_s / (time.perf_counter() - began_s), loop.duration_s
