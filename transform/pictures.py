"""Pictures of what was transcribed and made: a transcription, a take beside its source and rhythm, stems.

Only matplotlib's objects are used, never pyplot: no window, no state that is shared with the caller. Every
class has its lane, its colour and its own mark, so that a picture in grey is as legible.
"""

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from transform.audio import SAMPLE_RATE, Recording
from transform.events import CLASS_NAMES, CLASSES, DrumEvent, Rhythm, strokes_of
from transform.files import atomic_file
from transform.separator import StemReader
from transform.signal import overlapping_blocks
from transform.take import Take
from transform.transcriber import Activations

LIMIT_S = 30.0  # of a longer recording only the beginning is drawn

# Okabe and Ito's colours: distinct to the colour-blind, and of different lightness.
_COLOURS = {"KD": "#0072B2", "SD": "#D55E00", "TT": "#009E73", "HH": "#E69F00", "CY": "#AA4499"}
_MARKS = {"KD": "o", "SD": "s", "TT": "D", "HH": "^", "CY": "p"}
_SHAPES = {"pedal": "v", "sidestick": "X", "ride": "*", "bell": "P"}  # open hi-hats are hollow
_ARTICULATION_NAMES = {  # of the marks that are not their class's
    "open": "open hi-hat",
    "pedal": "foot hi-hat",
    "sidestick": "side stick",
    "ride": "ride",
    "bell": "ride bell",
}
_LANES = CLASSES[::-1]  # from the top: the kick is the lowest
_INK, _FAINT = "#222222", "#CCCCCC"
_WIDTH_IN, _DPI = 12.0, 120
_FFT, _HOP, _N_BANDS, _FLOOR_DB = 2048, 512, 128, -60.0
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 16_000.0


def plot_transcription(
    path: Path,
    recording: Recording,
    activations: Activations,
    events: Sequence[DrumEvent],
    *,
    overwrite: bool = False,
) -> None:
    """Write a PNG of a recording's waveform, the activations of each class and the hits found in them.

    Args:
        activations: of the recording, 100 frames a second.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    figure, (wave, curves, lanes) = _stack((2.0, 3.0, 2.4))
    shown_s = min(recording.duration_s, LIMIT_S)
    _title(wave, f"{recording.name}: {len(events)} hits", recording.duration_s)
    _draw_waveform(wave, _mono(opening(recording)))
    _draw_activations(curves, activations.probability[:, : round(100 * LIMIT_S) + 1])
    curves.set_ylabel("activation", fontsize=9, color=_INK)
    _draw_lanes(lanes, events)
    lanes.set_ylabel("hits", fontsize=9, color=_INK)
    _finish(figure, shown_s)
    _write(path, figure, overwrite=overwrite)


def plot_take(path: Path, source: Recording, take: Take, *, overwrite: bool = False) -> None:
    """Write a PNG of a source with its hits, the rhythm that it plays and the result, on one axis of time.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    figure, (before, hits, grid, after) = _stack((2.6, 1.6, 1.6, 2.6))
    longest_s = max(source.duration_s, take.duration_s)
    _title(before, f"source: {source.name}", longest_s)
    _draw_spectrogram(before, _band_levels(_mono(opening(source))), take.source_events)
    _draw_lanes(hits, take.source_events)
    _title(hits, f"its {len(take.source_events)} hits", 0.0)
    _draw_beats(grid, take.rhythm)
    _draw_lanes(grid, take.rhythm.events)
    _title(grid, f"rhythm: {take.rhythm.name}, {len(take.rhythm.events)} hits", 0.0)
    n_samples = min(take.n_samples, round(LIMIT_S * take.format.sample_rate))
    result = Recording.from_samples(take.read(0, n_samples), take.format.sample_rate)
    _title(after, "result", 0.0)
    _draw_spectrogram(after, _band_levels(_mono(result)), take.rhythm.events)
    _finish(figure, min(longest_s, LIMIT_S))
    _write(path, figure, overwrite=overwrite)


def plot_stems(
    path: Path,
    recording: Recording,
    stems: StemReader,
    events: Sequence[DrumEvent],
    *,
    overwrite: bool = False,
) -> None:
    """Write a PNG of a recording with its hits, and below it each stem with its own, in one scale of levels.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    figure, (whole, *lanes) = _stack((2.6, *[1.2] * len(CLASSES)))
    beginning = opening(recording)
    _title(whole, f"{recording.name} and its stems", recording.duration_s)
    level = _band_levels(_mono(beginning))
    _draw_spectrogram(whole, level, events)
    step = 10 * recording.sample_rate  # all channels of all stems are in memory for so long only
    waveforms = [
        stems.read(block.start, block.stop).mean(axis=1)
        for block in overlapping_blocks(beginning.n_samples, step)
    ]
    waves = dict(zip(CLASSES, np.concatenate(waveforms, axis=1), strict=True))
    for lane, drum_class in zip(lanes, _LANES, strict=True):
        stem = _mono(Recording.from_samples(waves[drum_class], recording.sample_rate))
        own = [event for event in events if event.drum_class == drum_class]
        tint = LinearSegmentedColormap.from_list(drum_class, ["white", _COLOURS[drum_class]])
        _draw_spectrogram(lane, _band_levels(stem), own, loudest=float(level.max()), colours=tint)
        lane.set_yticks([])
        lane.set_ylabel(CLASS_NAMES[drum_class], fontsize=9, color=_INK)
    _finish(figure, beginning.duration_s)
    _write(path, figure, overwrite=overwrite)


def opening(recording: Recording) -> Recording:
    """Return the region of a recording that a picture shows."""
    n_samples = round(LIMIT_S * recording.sample_rate)
    if recording.n_samples <= n_samples:
        return recording
    return Recording.from_samples(recording.read(0, n_samples), recording.sample_rate, recording.name)


def _stack(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Return a figure of axes above each other, with one axis of time."""
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 1.0), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    for each in axes:
        each.set_facecolor("white")
        each.tick_params(colors=_INK, labelsize=9)
        each.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _title(axes: Axes, text: str, duration_s: float) -> None:
    # File names may hold what no font can show, and $ would begin a formula.
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    text = text if len(text) <= 100 else f"{text[:99]}…"
    if duration_s > LIMIT_S:
        text += f" (the first {LIMIT_S:.0f} s of {duration_s:.0f} s)"
    axes.set_title(text, loc="left", fontsize=11, color=_INK, parse_math=False)


def _finish(figure: Figure, shown_s: float) -> None:
    bottom = figure.axes[-1]
    bottom.set_xlim(-0.004 * shown_s, shown_s)  # a mark at 0 s is shown whole
    bottom.set_xlabel("seconds", fontsize=9, color=_INK)
    figure.align_ylabels()


def _write(path: Path, figure: Figure, *, overwrite: bool) -> None:
    with atomic_file(path, overwrite=overwrite) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _mono(recording: Recording) -> npt.NDArray[np.float32]:
    return np.concatenate(list(recording.mono_blocks(SAMPLE_RATE)))


def _draw_waveform(axes: Axes, mono: npt.NDArray[np.float32]) -> None:
    """Draw the lowest and highest sample of each column."""
    per_column = max(1, len(mono) // 2400)
    n_columns = math.ceil(len(mono) / per_column)
    columns = np.pad(mono, (0, n_columns * per_column - len(mono)), mode="edge").reshape(n_columns, per_column)
    times_s = np.arange(n_columns) * per_column / SAMPLE_RATE
    axes.fill_between(times_s, columns.min(axis=1), columns.max(axis=1), color="#555555", linewidth=0.4)
    peak = max(1e-3, float(np.abs(mono).max()))
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_ylabel("amplitude", fontsize=9, color=_INK)


def _draw_activations(axes: Axes, probability: npt.NDArray[np.float32]) -> None:
    """Draw the curves of the classes, shape (5, F) at 100 frames per second, each in its lane."""
    times_s = np.arange(probability.shape[1]) / 100
    for lane, drum_class in enumerate(reversed(_LANES)):
        curve = lane + 0.9 * probability[CLASSES.index(drum_class)]
        axes.fill_between(times_s, lane, curve, color=_COLOURS[drum_class], alpha=0.45, linewidth=0)
        axes.plot(times_s, curve, color=_COLOURS[drum_class], linewidth=0.9)
    _name_lanes(axes)


def _draw_lanes(axes: Axes, events: Iterable[DrumEvent]) -> None:
    """Draw each stroke as a stem as high as it is loud, with the mark of its class or of how it was struck."""
    shown = [event for event in strokes_of(events) if event.onset_s <= LIMIT_S]
    for lane, drum_class in enumerate(reversed(_LANES)):
        colour = _COLOURS[drum_class]
        own = [event for event in shown if event.drum_class == drum_class]
        onsets_s = [event.onset_s for event in own]
        tops = [lane + 0.8 * event.velocity for event in own]
        axes.vlines(onsets_s, lane, tops, colors=colour, linewidth=1.2)
        for marker, is_hollow in sorted({_mark(event) for event in own}):
            are_such = [_mark(event) == (marker, is_hollow) for event in own]
            axes.scatter(
                list(compress(onsets_s, are_such)),
                list(compress(tops, are_such)),
                s=22,
                marker=marker,
                c="white" if is_hollow else colour,
                edgecolors=colour,
                linewidths=1.2,
                zorder=3,
            )
    _name_lanes(axes)
    _name_marks(axes, {(event.drum_class, event.articulation) for event in shown})


def _mark(event: DrumEvent) -> tuple[str, bool]:
    """Return the shape of a stroke's mark, and whether it is hollow."""
    return _SHAPES.get(event.articulation, _MARKS[event.drum_class]), event.articulation == "open"


def _name_marks(axes: Axes, struck: Collection[tuple[str, str]]) -> None:
    """Say above the lanes what those marks mean that are not their class's."""
    handles = []
    for drum_class, articulation in sorted(struck):
        if articulation not in _ARTICULATION_NAMES:
            continue
        marker, is_hollow = _mark(DrumEvent(0.0, drum_class, 1.0, articulation))
        line = Line2D([], [], color=_COLOURS[drum_class], marker=marker, markersize=5, linestyle="none")
        line.set_markerfacecolor("white" if is_hollow else _COLOURS[drum_class])
        line.set_label(_ARTICULATION_NAMES[articulation])
        handles.append(line)
    if handles:
        axes.legend(
            handles=handles,
            loc="lower right",
            bbox_to_anchor=(1.0, 0.97),
            ncols=len(handles),
            fontsize=8,
            frameon=False,
            handletextpad=0.1,
        )


def _name_lanes(axes: Axes) -> None:
    axes.set_ylim(-0.1, len(_LANES))
    axes.hlines(range(len(_LANES)), 0, 1, transform=axes.get_yaxis_transform(), colors=_FAINT, linewidth=0.6)
    names = [CLASS_NAMES[drum_class] for drum_class in reversed(_LANES)]
    axes.set_yticks([lane + 0.4 for lane in range(len(_LANES))], names)
    axes.tick_params(axis="y", length=0)


def _draw_beats(axes: Axes, rhythm: Rhythm) -> None:
    """Draw a line at every beat, a darker one at every bar, where the tempo is known."""
    if rhythm.tempo_map is None:
        return
    shown_s = min(rhythm.length_s, LIMIT_S)
    for beat in range(math.ceil(rhythm.tempo_map.beats_at(shown_s))):
        is_bar = abs(math.remainder(beat, rhythm.beats_per_bar)) < 1e-6
        colour, width = ("#777777", 1.0) if is_bar else (_FAINT, 0.6)
        axes.axvline(rhythm.tempo_map.seconds_at(float(beat)), color=colour, linewidth=width, zorder=0)


def _draw_spectrogram(
    axes: Axes,
    level: npt.NDArray[np.float64],
    events: Iterable[DrumEvent],
    *,
    loudest: float = 0.0,
    colours: str | Colormap = "Greys",
) -> None:
    """Draw levels over time and a logarithmic axis of frequency, with a mark at the top for every hit.

    Args:
        level: of `_band_levels`.
        events: the hits.
        loudest: the level that is 0 dB, where `level` does not hold a louder one.
        colours: from white, or another light colour, for silence.
    """
    loudest = max(loudest, float(level.max()), 1e-12)
    level_db = 10 * np.log10(np.maximum(level / loudest, 10 ** (_FLOOR_DB / 10)))
    top_hz = math.log2(_HIGHEST_HZ / _LOWEST_HZ)
    # Frame f is centred on sample f * hop.
    left_s, right_s = -0.5 * _HOP / SAMPLE_RATE, (level_db.shape[1] - 0.5) * _HOP / SAMPLE_RATE
    axes.imshow(
        level_db,
        origin="lower",
        aspect="auto",
        extent=(left_s, right_s, 0.0, top_hz),
        cmap=colours,
        vmin=_FLOOR_DB,
        vmax=0.0,
        interpolation="nearest",
    )
    ticks_hz = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
    names = [f"{hz // 1000}k" if hz >= 1000 else str(hz) for hz in ticks_hz]
    axes.set_yticks([math.log2(hz / _LOWEST_HZ) for hz in ticks_hz], names)
    axes.set_ylabel("Hz", fontsize=9, color=_INK)
    axes.set_ylim(0.0, 1.12 * top_hz)
    shown = [event for event in events if event.onset_s <= LIMIT_S]
    for drum_class in CLASSES:
        onsets_s = [event.onset_s for event in shown if event.drum_class == drum_class]
        lane = (1.02 + 0.018 * CLASSES.index(drum_class)) * top_hz
        axes.scatter(onsets_s, [lane] * len(onsets_s), s=12, marker=_MARKS[drum_class], c=_COLOURS[drum_class])


def _band_levels(mono: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the power in bands of equal width in octaves, shape (K, F)."""
    padded = np.pad(mono, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _N_BANDS + 1) / (SAMPLE_RATE / _FFT)
    below = np.floor(edges).astype(int)
    levels = []
    window = np.hanning(_FFT)
    for start in range(0, len(frames), 512):
        power = np.abs(np.fft.rfft(frames[start : start + 512] * window)) ** 2
        # Differences of the running sum distribute the bins over the bands, also where a bin spans many.
        total = np.cumsum(power, axis=1)
        at_edges = total[:, below] + (edges - below) * (total[:, below + 1] - total[:, below])
        levels.append(np.diff(at_edges, axis=1))
    return np.concatenate(levels).T
