"""Measure microphones of one performance that are redrummed together, and apart.

    python -m tests.bench.mic_session [--seconds N] [--microphones N] [--speed]

A session is made of the shipped spare kit: its one-shots play a shipped rhythm at changing strengths, and each
microphone receives every drum at a level, a delay (0 to 18 ms) and through a filter of its own; two of them are
at 44.1 kHz, the others at 48 kHz, and the polarity of the lower snare microphone is turned. Nothing but the
files is given to Redrum. Measured are, of the takes:

delays: each stroke of the take that no other one falls together with is sought in its source, microphone by
    microphone, by cross-correlation. The delays between microphones are unchanged where all of them find it at
    the same place, to the sample.
sum: by how many dB the sum of the results differs from the result of the sum, which is one more microphone.
own rhythm: log-mel distance and correlation of what each microphone plays to what it played, where all of them
    replay their own rhythm.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from daw_bridge.devices import set_up_device
from training.score.measures import log_mel_distance_db
from transform.audio import Recording
from transform.engine import Redrummer
from transform.events import CLASSES, Rhythm
from transform.library import find_rhythm
from transform.mic_files import MicFiles, write_mics
from transform.mics import MicRecording
from transform.midi import read_midi
from transform.presets import shipped_folder
from transform.settings import RenderSettings
from transform.take import Take

RATE, OTHER_RATE = 48_000, 44_100
_ROOM_TAU_S = 0.25
_MADE_S = 60.0  # of a session that is only measured for time
_MATCH_S, _BEFORE_S, _NEAR_S = 0.06, 0.004, 0.025
_MOST_STROKES = 40  # that are sought, spread over the take
_ALIKE = 0.8  # correlation of a stroke that is found in its source


class Placing(NamedTuple):
    """How a microphone hears the kit: by class KD, SD, TT, HH, CY, gains in dB and delays in ms."""

    name: str
    gains_db: tuple[float, ...]
    delays_ms: tuple[float, ...]
    low_hz: float = 20.0
    high_hz: float = 20_000.0
    wet: float = 0.0  # how much of a room's reverberation it hears
    polarity: float = 1.0
    sample_rate: int = RATE


PLACINGS = (
    Placing("KICK IN", (0, -24, -22, -34, -32), (0, 2.2, 2.0, 2.6, 3.4), high_hz=6_000),
    Placing("KICK OUT", (-6, -22, -18, -30, -28), (0.9, 2.8, 2.4, 3.1, 3.9), high_hz=3_000),
    Placing("SNARE TOP", (-20, 0, -20, -16, -20), (2.3, 0, 1.5, 0.8, 2.2), low_hz=90),
    Placing("SNARE BOTTOM", (-18, -4, -24, -22, -24), (2.1, 0.4, 1.9, 1.4, 2.8), low_hz=200, polarity=-1),
    Placing("HAT", (-26, -12, -22, 0, -12), (2.7, 1.0, 2.4, 0, 2.0), low_hz=300, sample_rate=OTHER_RATE),
    Placing("OH L", (-12, -6, -8, -8, -2), (5.2, 3.6, 3.3, 2.9, 2.1), low_hz=60),
    Placing("OH R", (-12, -7, -6, -11, -3), (4.9, 4.4, 2.8, 4.1, 1.9), low_hz=60),
    Placing("ROOM", (-8, -8, -8, -14, -8), (18, 16.5, 15.7, 15.1, 14.2), wet=0.5, sample_rate=OTHER_RATE),
)


@dataclass(frozen=True)
class Session:
    """The sound of each microphone, shape (T,), with its name and rate."""

    names: tuple[str, ...]
    sounds: tuple[np.ndarray, ...]
    sample_rates: tuple[int, ...]

    def write(self, folder: Path) -> list[Path]:
        """Return the files that the microphones are written to, in 24 bits."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.wav" for name in self.names]
        for path, sound, rate in zip(paths, self.sounds, self.sample_rates, strict=True):
            soundfile.write(path, sound, rate, subtype="PCM_24")
        return paths


def made_session(
    rhythm_name: str = "rock-drive-135",
    length_s: float = 12.0,
    placings: Sequence[Placing] = PLACINGS,
    seed: int = 0,
) -> Session:
    """Return a session of a shipped rhythm, which is looped."""
    rng = np.random.default_rng(seed)
    dry = _dry(read_midi(find_rhythm(rhythm_name).path), length_s, rng)
    heard = [_heard(dry, placing, rng) for placing in placings]
    loudest = max(float(np.abs(sound).max()) for sound in heard)
    sounds = []
    for sound, placing in zip(heard, placings, strict=True):
        noise = 1e-5 * rng.standard_normal(len(sound))
        level = (0.7 / loudest) * sound + noise
        if placing.sample_rate != RATE:
            level = soxr.resample(level, RATE, placing.sample_rate, quality="VHQ")
        sounds.append(level.astype(np.float32))
    names, rates = zip(*((placing.name, placing.sample_rate) for placing in placings), strict=True)
    return Session(names, tuple(sounds), rates)


def _dry(rhythm: Rhythm, length_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return what each class plays, shape (5, T), at RATE."""
    out = np.zeros((len(CLASSES), round(length_s * RATE)))
    shots = _shots()
    n_turns = int(np.ceil(length_s / rhythm.length_s))
    for turn in range(n_turns):
        for event in rhythm.events:
            own = shots[event.drum_class]
            shot = own[int(rng.integers(len(own)))]
            at = round((turn * rhythm.length_s + event.onset_s) * RATE)
            gain = (event.velocity * rng.uniform(0.85, 1.15)) ** 1.6
            part = gain * shot[: max(0, out.shape[1] - at)]
            out[CLASSES.index(event.drum_class), at : at + len(part)] += part
    return out


def _shots() -> dict[str, list[np.ndarray]]:
    """Return the one-shots (T,) of each class of the spare kit, at RATE."""
    folder = shipped_folder() / "spare"
    found: dict[str, list[np.ndarray]] = {}
    with (folder / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["class"] == "HH" and row["articulation"] != "closed":
                continue
            samples, rate = soundfile.read(folder / row["file"], always_2d=True)
            shot = soxr.resample(samples.mean(axis=1), rate, RATE, quality="VHQ")
            found.setdefault(row["class"], []).append(shot)
    return found


def _heard(dry: np.ndarray, placing: Placing, rng: np.random.Generator) -> np.ndarray:
    """Return what a microphone hears, shape (T,), at RATE."""
    n_samples = dry.shape[1]
    mono = np.zeros(n_samples)
    for sound, gain_db, delay_ms in zip(dry, placing.gains_db, placing.delays_ms, strict=True):
        delay = round(delay_ms / 1000 * RATE)
        mono[delay:] += 10 ** (gain_db / 20) * sound[: n_samples - delay]
    size = 1 << (2 * n_samples - 1).bit_length()
    hz = np.fft.rfftfreq(size, 1 / RATE)
    # Of the first order either way, causal, so that the filter moves phases as one of a microphone does.
    response = (1j * hz / placing.low_hz) / (1 + 1j * hz / placing.low_hz) / (1 + 1j * hz / placing.high_hz)
    if placing.wet:
        tail_s = np.arange(RATE) / RATE
        tail = rng.standard_normal(RATE) * np.exp(-tail_s / _ROOM_TAU_S) * np.sqrt(2 / (_ROOM_TAU_S * RATE))
        response *= 1 + placing.wet * np.fft.rfft(tail, size)
    return placing.polarity * np.fft.irfft(np.fft.rfft(mono, size) * response, size)[:n_samples]


def with_sum(session: Session) -> Session:
    """Return a session with one more microphone, the sum of all others at RATE, turned down by 12 dB."""
    at_rate = [_at(sound, rate) for sound, rate in zip(session.sounds, session.sample_rates, strict=True)]
    length = min(map(len, at_rate))
    total = 0.25 * np.sum([sound[:length] for sound in at_rate], axis=0)
    return Session((*session.names, "SUM"), (*session.sounds, total), (*session.sample_rates, RATE))


def _at(sound: np.ndarray, rate: int) -> np.ndarray:
    return sound if rate == RATE else soxr.resample(sound, rate, RATE, quality="VHQ")


def redrummed(
    session: Session, folder: Path, redrummer: Redrummer, rhythm: Rhythm | None, *, together: bool
) -> list[np.ndarray]:
    """Return the result of each microphone, (T,), in 32-bit float; without a rhythm they play their own."""
    paths = session.write(folder / "source")
    settings = RenderSettings(length="source", align="seconds")
    results = [folder / ("together" if together else "apart") / path.name for path in paths]
    recordings = [Recording.open(path) for path in paths]
    if together:
        microphones = MicRecording.of(recordings)
        take = redrummer.redrum(microphones, rhythm or microphones, settings)
        write_mics(take, microphones, MicFiles(takes=results), bit_depth="32f", overwrite=True)
    else:
        for recording, path in zip(recordings, results, strict=True):
            take = redrummer.redrum(recording, rhythm or recording, settings)
            take.write(path, bit_depth="32f", overwrite=True)
    for recording in recordings:
        recording.close()
    return [soundfile.read(path, dtype="float32")[0] for path in results]


def delay_errors(session: Session, results: Sequence[np.ndarray], onsets_s: Sequence[float]) -> np.ndarray:
    """Return by how many samples each microphone's stroke lies elsewhere than its first's, shape (N, M).

    The microphone that is most like its source says where the stroke is from; the others are sought near there.
    NaN: a microphone's stroke is not found, being too soft to tell.
    """
    rows = []
    for onset_s in onsets_s[:: -(-len(onsets_s) // _MOST_STROKES)]:
        found = [
            _Matched.of(*sounds, onset_s)
            for sounds in zip(session.sounds, results, session.sample_rates, strict=True)
        ]
        anchor = max(found, key=lambda match: match.scores.max(initial=0.0)).best_s
        rows.append([match.near_s(anchor) - anchor for match in found])
    return np.array(rows) * np.array(session.sample_rates)


def lone_onsets_s(rhythm: Rhythm) -> list[float]:
    """Return the onsets of strokes that no other stroke is near to."""
    onsets_s = np.array([event.onset_s for event in rhythm.events])
    near = np.abs(onsets_s[:, None] - onsets_s) < _MATCH_S
    return sorted(onsets_s[near.sum(axis=1) == 1].tolist())


class _Matched(NamedTuple):
    """A stroke of a result, compared with its source at every place."""

    scores: np.ndarray  # correlation at each sample of the source
    begin: int  # sample of the result
    rate: int

    @classmethod
    def of(cls, sound: np.ndarray, result: np.ndarray, rate: int, onset_s: float) -> _Matched:
        """Return the comparison of what a microphone plays at an onset with what it played."""
        begin = max(0, round((onset_s - _BEFORE_S) * rate))
        # The second differences: their highs tell one sample from the next, where a kick's lows do not.
        sound, result = (np.diff(x.astype(np.float64), 2) for x in (sound, result))
        stroke = result[begin : begin + round(_MATCH_S * rate)]
        size = 1 << (len(sound) + len(stroke)).bit_length()
        product = np.fft.rfft(sound, size) * np.fft.rfft(stroke, size).conj()
        scores = np.fft.irfft(product, size)[: len(sound) - len(stroke)]
        power = np.concatenate(([0.0], np.cumsum(sound**2)))
        energies = (power[len(stroke) :] - power[: -len(stroke)])[: len(scores)]
        return cls(scores / (np.sqrt(energies * (stroke**2).sum()) + 1e-9), begin, rate)

    @property
    def best_s(self) -> float:
        """How much later in its source the stroke is most like itself, in seconds."""
        return (int(np.argmax(self.scores)) - self.begin) / self.rate

    def near_s(self, place_s: float) -> float:
        """Return the same near a place; NaN: it is not like anything there."""
        middle = round(place_s * self.rate) + self.begin
        first = max(0, middle - round(_NEAR_S * self.rate))
        own = self.scores[first : middle + round(_NEAR_S * self.rate)]
        if own.max(initial=0.0) < _ALIKE:
            return float("nan")
        return (first + int(np.argmax(own)) - self.begin) / self.rate


def sum_error_db(session: Session, results: Sequence[np.ndarray]) -> float:
    """Return the level of the sum of all results but the last minus the last, against that, in dB."""
    at_rate = [_at(result, rate) for result, rate in zip(results, session.sample_rates, strict=True)]
    length = min(map(len, at_rate))
    total = 0.25 * np.sum([result[:length] for result in at_rate[:-1]], axis=0)
    difference = total - at_rate[-1][:length]
    return float(20 * np.log10(np.linalg.norm(difference) / np.linalg.norm(at_rate[-1])))


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--microphones", type=int, default=8)
    parser.add_argument("--write", type=Path, help="only write the files of a session")
    parser.add_argument("--speed", action="store_true", help="measure only how fast it is")
    arguments = parser.parse_args()
    if arguments.write:
        _write_long(arguments.seconds, arguments.microphones, arguments.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.speed:
            _print_speed(arguments.seconds, arguments.microphones, Path(folder))
        else:
            _print_sound(arguments.seconds, Path(folder))


def _print_sound(length_s: float, folder: Path) -> None:
    redrummer = Redrummer.load()
    session = made_session(length_s=length_s)
    rhythm = read_midi(find_rhythm("hip-hop-bounce-140").path)
    onsets_s = lone_onsets_s(rhythm.section(0, length_s))
    both = with_sum(session)
    for together in (True, False):
        results = redrummed(both, folder, redrummer, rhythm, together=together)
        errors = np.abs(delay_errors(session, results[:-1], onsets_s))
        found = np.isfinite(errors)
        moved = int((errors[found] > 0.5).sum())
        print(
            f"{'together' if together else 'apart':9} strokes found {int(found.sum())} of {found.size}, "
            f"of these moved by a sample or more {moved}, by a median of "
            f"{np.median(errors[found]) * 1000 / RATE:.3f} ms; "
            f"sum of the results minus result of the sum {sum_error_db(both, results):.1f} dB"
        )
    results = redrummed(session, folder, redrummer, None, together=True)
    for name, sound, result, rate in zip(
        session.names, session.sounds, results, session.sample_rates, strict=True
    ):
        length = min(len(sound), len(result))
        correlation = float(np.corrcoef(sound[:length], result[:length])[0, 1])
        pair = [soxr.resample(x[:length], rate, 44_100) for x in (result, sound)]
        distance = log_mel_distance_db(*pair)
        print(f"own rhythm: {name:13} log-mel distance {distance:.2f} dB, correlation {correlation:.3f}")


def _write_long(length_s: float, n_microphones: int, folder: Path) -> None:
    """Write a session of any length and number of microphones: the same minute, and the same eight, again."""
    session = made_session(length_s=min(length_s, _MADE_S))
    more = -(-n_microphones // len(session.names))
    names = tuple(f"{name} {turn}" for turn in range(more) for name in session.names)[:n_microphones]
    n_turns = -(-length_s // _MADE_S)
    sounds = [
        np.tile(sound, int(n_turns))[: round(length_s * rate)]
        for sound, rate in zip(session.sounds, session.sample_rates, strict=True)
    ]
    Session(names, tuple(sounds * more)[:n_microphones], (session.sample_rates * more)[:n_microphones]).write(
        folder
    )


def _print_speed(length_s: float, n_microphones: int, folder: Path) -> None:
    size = ["--seconds", str(length_s), "--microphones", str(n_microphones)]
    # In another process, so that its memory is not measured.
    subprocess.run([sys.executable, "-m", "tests.bench.mic_session", *size, "--write", folder], check=True)
    paths = sorted(folder.glob("*.wav"))
    redrummer = Redrummer.load(device=set_up_device("cpu", None))  # in as many threads as `redrum render`
    rhythm = read_midi(find_rhythm("hip-hop-bounce-140").path)
    began_s, computed_s = time.perf_counter(), time.process_time()
    laps: list[tuple[str, float, float]] = []

    def lap(stage: str, fraction: float = 0.0) -> None:
        if not laps or laps[-1][0] != stage:
            laps.append((stage, time.perf_counter() - began_s, time.process_time() - computed_s))

    recordings = [Recording.open(path) for path in paths]
    microphones = MicRecording.of(recordings)
    settings = RenderSettings(length="source")
    take: Take = redrummer.redrum(microphones, rhythm, settings, progress=lap)
    lap("find peaks")
    take.notes()
    lap("write")
    write_mics(take, microphones, MicFiles(takes=[folder / "out" / path.name for path in paths]))
    lap("end")
    took_s, cpu_s = laps[-1][1:]
    for stage, at_s, at_cpu_s in laps:
        print(f"{at_s:7.1f} s, {at_cpu_s:7.1f} s of processors: {stage}")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n_microphones} microphones of {length_s:.0f} s: {took_s:.1f} s, {length_s / took_s:.1f} times real "
        f"time, {cpu_s:.1f} s of processors, {peak_mb:.0f} MB"
    )


if __name__ == "__main__":
    main()
