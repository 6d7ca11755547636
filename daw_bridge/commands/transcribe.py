"""The command `transcribe`: what a drum recording plays, as MIDI."""

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import transform
from daw_bridge.commands.analysis import nothing_detected
from daw_bridge.commands.options import (
    Compute,
    Overwrite,
    Plot,
    Preset,
    Sensitivity,
    SourceBpm,
    option,
    option_groups,
)
from daw_bridge.commands.reporting import Console, print_json
from daw_bridge.commands.streams import check_streams, input_path, is_stream, output_path
from daw_bridge.render_job import check_ending, check_outputs, result_place
from daw_bridge.take_report import Report, count_events
from transform.errors import RhythmError
from transform.names import name_after
from transform.options import read_options
from transform.settings import RenderSettings

if TYPE_CHECKING:
    from transform.listening import Listening


@option_groups()
def transcribe(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="The drum recording, - for standard input.")],
    out: Annotated[
        str | None,
        option(
            "OUT.mid|DIR/",
            "The MIDI file, or its folder; - for standard output.",
            "redrummed/AUDIO.mid",
            "-o",
            "--out",
            "--output",
        ),
    ] = None,
    plot: Plot = None,
    source_bpm: SourceBpm = None,
    sensitivity: Sensitivity = None,
    preset: Preset = "default",
    *,
    compute: Compute,
    overwrite: Overwrite = False,
    console: Console,
) -> None:
    """Write the hits of a drum recording as MIDI, with velocities."""
    from transform.audio import write_bytes_atomic

    given = {"sensitivity": sensitivity, "source_bpm": source_bpm}
    settings = RenderSettings(**read_options(RenderSettings, given))
    check_streams([audio], out, as_json=console.as_json)
    with ExitStack() as files:
        if is_stream(out):
            out, console = files.enter_context(output_path(".mid", console))
        place = input_path(audio, files)
        recording = files.enter_context(transform.Recording.open(place))
        output = result_place(out, name_after(recording.name, ".mid"))
        check_ending(output, (".mid", ".midi"))
        check_ending(plot, (".png",))
        check_outputs([output, plot], [place], overwrite=overwrite)

        from transform.midi import write_midi

        redrummer = compute.load(preset)
        began_s = time.perf_counter()
        with console.progress() as progress:
            detected = redrummer.listen(
                recording, sensitivity=settings.sensitivity, progress=progress
            ).at_attacks()
        rhythm, tempo_from = _rhythm(detected, settings.source_bpm)
        write_bytes_atomic(output, write_midi(rhythm), overwrite=overwrite)
        if plot:
            from transform.pictures import plot_transcription

            plot_transcription(plot, recording, detected.activations, rhythm.events, overwrite=overwrite)
        seconds = time.perf_counter() - began_s
    report = {
        "audio": audio,
        "output": str(output),
        "plot": str(plot) if plot else None,
        "bpm_from": tempo_from or None,
        "seconds": round(seconds, 3),
    }
    _print(rhythm, report, console)


def _print(rhythm: "transform.Rhythm", report: Report, console: Console) -> None:
    """Print what was transcribed; the report names the files."""
    from transform.tempo import bpm_text

    counts = count_events(rhythm.events)
    if console.as_json:
        print_json(
            report
            | {
                "duration_s": round(rhythm.length_s, 6),
                "bpm": rhythm.bpm,
                "counts": counts,
                "events": [
                    {
                        "onset_s": round(event.onset_s, 5),
                        "class": event.drum_class,
                        "velocity": round(event.velocity, 4),
                        "articulation": event.articulation,
                        "flam_ms": round(event.flam_ms, 1),
                    }
                    for event in rhythm.events
                ],
            }
        )
    by_class = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    console.echo(f"{report['output']}: {len(rhythm.events)} hits ({by_class}) in {rhythm.length_s:.2f} s")
    if rhythm.bpm is None:
        console.echo(
            "  no tempo is known, so the file keeps seconds; to have bars in it add --source-bpm N, "
            "or --source-bpm auto"
        )
    else:
        console.echo(f"  at {bpm_text(rhythm.bpm)} BPM ({report['bpm_from']})")
    if report["plot"]:
        console.echo(f"  picture: {report['plot']}")


def _rhythm(detected: "Listening", requested: float | Literal["auto"] | None) -> tuple["transform.Rhythm", str]:
    """Return what a recording plays, and what its tempo is from: given, estimated or stated, else unknown."""
    from transform.tempo import estimate_tempo

    rhythm, recording = detected.rhythm(), detected.recording
    if not rhythm.events:
        raise nothing_detected(recording)
    if requested == "auto":
        estimate = estimate_tempo(rhythm.events, recording.duration_s)
        if estimate is None:
            raise RhythmError(f"no tempo can be detected in {recording.name}", hint="give --source-bpm N")
        bpm, how = estimate[0], f"an estimate, confidence {estimate[1]:.2f}"
    elif requested is not None:
        bpm, how = requested, "--source-bpm"
    elif stated := recording.tempo_bpm():
        bpm, how = stated
    else:
        return rhythm, ""
    return replace(rhythm, tempo_map=transform.TempoMap.constant(bpm)), how
