"""The command `edit`: the rhythm inside a recording, in the browser."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import transform
from daw_bridge.commands.mics import Together, mics_of
from daw_bridge.commands.options import Compute, Preset, option, option_groups, rhythm_names
from daw_bridge.commands.reporting import Console, print_json
from daw_bridge.commands.sources import with_rhythm
from daw_bridge.mics_job import offsets_of
from daw_bridge.render_job import OUT_FOLDER, check_preset
from transform.errors import AudioError, SettingsError
from transform.names import existing_path
from transform.terminal import one_line

if TYPE_CHECKING:
    from daw_bridge.editor.desk import Desk
    from daw_bridge.editor.editing import EditingSession, FirstRhythm
    from daw_bridge.editor.opening import Watcher
    from daw_bridge.editor.source import Source

DEMO_LOOP = "acoustic-rock-135bpm"


@option_groups()
def edit(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE...]",
            help="The drum recording; without it the page takes one. With --together several, or a folder.",
            show_default=False,
        ),
    ] = None,
    rhythm: Annotated[
        str | None,
        option(
            "RHYTHM",
            "What plays at first: a MIDI file, a recording or a name of `rhythms list`.",
            "the recording's own",
            complete=rhythm_names,
        ),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port of this machine; 0: any.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address of the page.")
    ] = False,
    preset: Preset = "default",
    *,
    mics: Together,
    compute: Compute,
    console: Console,
) -> None:
    """Edit the rhythm inside a drum recording, on a page in the browser.

    Microphones of one performance are edited as one, and each gets a result of its own.

    Edits are stored as they are made: the next start for the same recording goes on with them. The editor ends
    ten minutes after its last page was closed, or with Ctrl-C.
    """
    from daw_bridge.editor.opening import Opening, edit_dropped, edit_recording

    sources, rhythm = with_rhythm(sources or [], rhythm or None)
    mics.check(sources, rhythm)
    first = _first_rhythm(rhythm)
    check_preset(preset, transform.RenderSettings().engine)
    opening = Opening(
        load=lambda: compute.load(preset),
        folder=OUT_FOLDER,
        rhythm=first,
        port=port,
        has_browser=not no_browser,
    )
    if sources or mics.together:
        source = _source_of(sources, mics)
        edit_recording(source, opening, page_watcher(" ".join(sources or [source.name]), console))
    else:
        edit_dropped(_demo_loop, opening, page_watcher("the page for a recording", console))


def _source_of(sources: list[str], mics: Together) -> "Source":
    from daw_bridge.editor.source import MicSource, Source

    if not mics.together:
        path = existing_path(Path(sources[0]))
        if path.is_dir():
            raise AudioError(
                f"{path} is a folder",
                hint="name a recording in it; with --together they are microphones of one performance",
            )
        transform.Recording.open(path).close()  # its errors name the path as it was given
        return Source(path)
    if not sources:
        raise SettingsError("there are no microphones", hint="give their recordings, or a folder of them")
    paths = mics_of(sources)
    return MicSource(paths, offsets_of(paths, mics.offset or ()), mics.listen_to)


def edit_selected(desk: "Desk", preset: str, compute: Compute, console: Console) -> None:
    """Edit the item that is selected in a DAW, on a page that sends takes of it back."""
    from daw_bridge.editor.opening import Opening, edit_item

    check_preset(preset, transform.RenderSettings().engine)
    name = f"{desk.item.name or 'the item'} of {desk.host}"
    edit_item(desk, Opening(load=lambda: compute.load(preset), folder=OUT_FOLDER), page_watcher(name, console))


def page_watcher(name: str, console: Console) -> "Watcher":
    """Return what prints on the terminal how an editor goes on; `name` is what is open in it."""
    from daw_bridge.editor.opening import Watcher

    def serving(session: "EditingSession | None", url: str) -> None:
        if console.as_json:
            print_json({"url": url})
            return
        console.echo(f"{name} is open at {url}")
        console.echo("  edits are stored as they are made; close the page, or press Ctrl-C, to end")
        if session is not None:
            session.opened.add_done_callback(lambda _: _report_opened(session, console))

    def no_browser(url: str) -> None:
        typer.echo(f"no browser can be opened: open {one_line(url)} in one", err=True)

    return Watcher(serving, no_browser)


def _report_opened(session: "EditingSession", console: Console) -> None:
    """Print what became of earlier edits, once that is known."""
    if session.state != "ready":
        return
    if session.is_resumed:
        console.echo("  it goes on where it was left; all of it can be undone")
    for sentence in session.opening:
        console.echo(f"  {sentence}")


def _demo_loop() -> Path:
    from transform.library import demo_recordings

    return next(loop.path for loop in demo_recordings() if loop.name == DEMO_LOOP)


def _first_rhythm(rhythm: str | None) -> "FirstRhythm | None":
    """Return what plays at first.

    Raises:
        RhythmError: it is missing, or no drums are in it.
    """
    if rhythm is None:
        return None
    from daw_bridge.editor.editing import FirstRhythm
    from transform.library import resolve_rhythm
    from transform.midi import read_midi

    found = resolve_rhythm(rhythm)
    if found.is_midi:
        written = read_midi(found.path)
        return FirstRhythm(read=lambda engine: written)
    transform.Recording.open(found.path).close()
    return FirstRhythm(read=lambda engine: engine.rhythm_of(found.path, found.name))
