"""Microphones of one performance in `render`: options, and what they do."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import transform
from daw_bridge.commands.options import Compute, Existing, TakeForm, option
from daw_bridge.commands.reporting import Console
from daw_bridge.commands.sources import check_one
from daw_bridge.mics_job import MicsJob, check_different, offsets_of, open_mics
from daw_bridge.render_job import check_preset, open_rhythm, result_place
from daw_bridge.take_report import Report
from transform.errors import SettingsError
from transform.names import existing_path


@dataclass(frozen=True, kw_only=True)
class Together:
    """Whether several recordings are microphones of one performance, and what is known of them."""

    together: Annotated[
        bool,
        typer.Option("--together/--apart", help="Several SOURCEs are microphones of one performance, or not."),
    ] = False
    listen_to: Annotated[
        Path | None, option("FILE", "With --together: transcribe this, such as a mix, not the sum.", False)
    ] = None
    offset: Annotated[
        list[str] | None,
        option(
            "[NAME=]SECONDS",
            "With --together: when a microphone begins; or once for each, in their order.",
            "as the files' time references say",
        ),
    ] = None

    def check(self, sources: Sequence[str], rhythm: str | None) -> None:
        """Raise an error for what does not go with the number of recordings, or with each other."""
        if self.together:
            return
        check_one(sources, rhythm)
        for name, value in self.given().items():
            if value:
                raise SettingsError(
                    f"{name} is for microphones of one performance", hint="give --together, or leave it out"
                )

    def given(self) -> dict[str, object]:
        """Return the values of the options that --together needs, by name."""
        return {"--listen-to": self.listen_to, "--offset": self.offset}


@dataclass(frozen=True, kw_only=True)
class MicsRequest:
    """What is requested of the microphones of one performance."""

    sources: Sequence[Path]
    rhythm: str
    options: Together
    out: str | None  # the folder of the results
    settings: "transform.RenderSettings"
    preset: str
    form: TakeForm
    plot: Path | None
    midi: Path | None
    existing: Existing

    def render(self, compute: Compute, console: Console, *, dry_run: bool) -> None:
        """Write a result for each microphone and print the report of them."""
        from transform.mic_levels import form_notes
        from transform.mics import check_together
        from transform.tempo import check_tempi

        check_together(self.settings)
        with ExitStack() as files:
            job, report = self._job(files)
            if self.existing.skip_existing and all(path.exists() for path in job.outputs):
                console.print_report(report | {"skipped": True})
                return
            check_preset(self.preset, self.settings.engine)
            check_tempi(job.microphones, job.rhythm, self.settings)
            job.check()
            if dry_run:
                report |= {"notes": form_notes(job.microphones.microphones, job.microphones)}
                console.print_report(report | {"engine": self.settings.engine, "dry_run": True})
                return
            with console.progress() as progress:
                report |= job.run(compute.load(self.preset), self.settings, progress)
        console.print_report(report)

    def _job(self, files: ExitStack) -> tuple[MicsJob, Report]:
        from transform.kit_names import check_kit_sources, files_of
        from transform.library import resolve_rhythm

        microphones = open_mics(
            self.sources,
            files,
            offsets_s=offsets_of(self.sources, self.options.offset or ()),
            listen_to=self.options.listen_to,
        )
        check_kit_sources(self.settings.kit_from)
        found = resolve_rhythm(self.rhythm)
        kit_files = [file for path in self.settings.kit_from for file in files_of(path)]
        out = None if self.out is None else f"{self.out}/"
        outputs = [result_place(out, f"{path.stem}_{found.name}.wav") for path in self.sources]
        guide = [self.options.listen_to] if self.options.listen_to else []
        job = MicsJob(
            microphones=microphones,
            rhythm=open_rhythm(found, self.form.drum_notes, files),
            outputs=tuple(outputs),
            inputs=(*self.sources, *guide, found.path, *kit_files),
            plot=self.plot,
            midi=self.midi,
            overwrite=self.existing.overwrite,
            bit_depth=self.form.bit_depth,
        )
        about: list[dict[str, Any]] = [
            {"source": str(source), "output": str(path)}
            for source, path in zip(self.sources, outputs, strict=True)
        ]
        return job, {**about[0], "rhythm": self.rhythm, "together": about}


def mics_of(sources: Sequence[str]) -> list[Path]:
    """Return the files of microphones; a folder stands for the recordings in it that may be of drums.

    Raises:
        AudioError: a folder holds none.
        SettingsError: a file is named twice.
    """
    from daw_bridge.recordings import microphones_among, recordings_in

    paths: list[Path] = []
    for place in (existing_path(Path(source)) for source in sources):
        own = recordings_in(place)
        paths += microphones_among(own) if place.is_dir() else own
    check_different(paths)
    return paths
