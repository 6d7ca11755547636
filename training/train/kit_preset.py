"""The preset that fine-tuning on a kit ends in: weights, card, what was gained, and a picture of it."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training.card import check_new_folder, derive_preset, note_scores
from training.data.kit_folder import KitFolder
from training.picture import show_spectrogram, write_picture
from training.score.codec import round_trip
from training.score.kit import KitGain, coded_distances, coded_transcriptions, latent_distances
from training.score.measures import Audio
from training.train.kit import (
    Base,
    KitTraining,
    Material,
    other_recordings,
    shipped_grooves,
    validation_grooves,
)
from training.train.loop import export_model, read_checkpoint
from transform.codec import Codec, GeneratorNet
from transform.errors import CheckpointError, OutputError, RedrumError, SettingsError
from transform.files import atomic_folder
from transform.names import NAME_HINT, is_name
from transform.presets import Preset, list_presets, load_preset, user_folder
from transform.transcriber import Transcriber

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "improvement.png"
DISTANCES = "Log-mel distance (95 % interval over recordings)"

_MORE_HINT = (
    "train longer with --resume and more --max-minutes, give it more hits, or have the preset all the same "
    "with --export DIR"
)
_log = logging.getLogger(__name__)
_SCORING_SEED = 7  # other recordings than those that chose the weights


def name_for(folder: Path, requested: str | None) -> str:
    """Return the name of a kit's preset: the requested one, or one made of the folder's.

    Raises:
        SettingsError: it cannot name a preset.
    """
    name = requested
    if name is None:
        name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
        if not name:
            raise SettingsError("no name can be made from the folder's", hint="give one with --name my-kit")
    if not is_name(name):
        raise SettingsError(f"{name!r} cannot name a preset", hint=NAME_HINT)
    return name


def place_for(name: str, export: Path | None) -> Path:
    """Return the folder of a new preset: the user's, unless another is requested.

    Raises:
        OutputError: there is a preset of this name already, or something in the folder.
    """
    if export is not None:
        check_new_folder(export)
        return export
    target = user_folder() / "presets" / name
    if name in list_presets() or os.path.lexists(target):
        raise OutputError(
            f"there is a preset called {name} already",
            hint="give another one with --name: no preset is ever replaced",
        )
    return target


def export_kit(
    checkpoint: Path,
    folder: KitFolder,
    base: Base,
    target: Path,
    settings: KitTraining,
    *,
    name: str,
    command: str,
    device: str = "cpu",
    needs_gain: bool = False,
) -> Preset:
    """Write the best weights of a run as a new preset with all else that its base holds, and return it.

    Raises:
        RedrumError: it needs a gain, and nothing was gained.
        CheckpointError: the checkpoint is missing or damaged, or a weights file of the base is.
        OutputError: there is something in the target's place, or it cannot be written.
    """
    state = read_checkpoint(checkpoint, "kit")
    if not state.get("best"):
        raise CheckpointError(f"{checkpoint} is no checkpoint of a kit", hint="start a run without --resume")
    generators = base.trained.generator, copy.deepcopy(base.trained.generator)
    generators[1].load_state_dict(state["best"])
    about = json.loads(state["kit"])
    history, settings = about["history"], replace(settings, n_scored=about.get("n_scored", settings.n_scored))
    _log.info("comparing before and after, on %d recordings", settings.n_scored)
    scores, shown, gain = _scores(folder, base, generators, settings, device)
    if gain.low <= 0:
        lost = f"the kit is {gain.after:.2f} dB from what it is, before it was {gain.before:.2f} dB"
        if needs_gain:
            raise RedrumError(f"nothing was gained: {lost}, and no preset is made of it", hint=_MORE_HINT)
        _log.warning("nothing was gained: %s", lost)
    with atomic_folder(target, overwrite=False) as temporary:
        for model, entry in base.preset.models.items():
            if model != "codec-generator":
                shutil.copyfile(base.preset.weights(model), temporary / entry.path.name)
        derive_preset(base.preset.folder, temporary, name, _data(folder, base.preset, history))
        best = {**state, "average": state["best"]}
        export_model(best, base.trained.generator, "codec-generator", temporary, command=command)
        note_scores(temporary, "codec-generator", scores)
        draw_gain(temporary / PICTURE, history, shown)
    return load_preset(target)


def gains(preset: Preset) -> list[tuple[str, Mapping[str, str]]]:
    """Return the distances before and after that a kit's preset states, row by row."""
    scores = preset.scores["codec-generator"]
    assert isinstance(scores, dict)
    return list(scores[DISTANCES].items())


def _scores(
    folder: KitFolder,
    base: Base,
    generators: tuple[GeneratorNet, GeneratorNet],
    settings: KitTraining,
    device: str,
) -> tuple[dict[str, Any], list[tuple[str, Audio]], KitGain]:
    """Return tables of scores before and after, a recording as either generator makes it, and the gain."""
    material, grooves = Material.of(folder, settings.seed), validation_grooves(shipped_grooves())
    judges = material.judges(grooves, n=settings.n_scored, seed=settings.seed + _SCORING_SEED)
    others = other_recordings(settings, torch.device(device))
    codecs = [Codec(base.trained.encoder, generator, device=device) for generator in generators]
    transcriber = Transcriber(base.trained.transcriber, device=device)
    what = "held-out hits" if material.held_out is not None else "its recordings' ends"
    if material.held_out is None and material.kit is not None:
        what = "hits that it was trained on, in other rhythms"
    rows = {
        f"{what}, coded and decoded": KitGain.of(*(coded_distances(codec, judges) for codec in codecs)),
        "other drums, coded and decoded": KitGain.of(*(coded_distances(codec, others) for codec in codecs)),
    }
    if base.rhythm is not None and material.kit is not None:
        recipes = material.whole(grooves, n=settings.n_latent, seed=settings.seed + _SCORING_SEED)
        renders = [latent_distances(codec, base.rhythm, transcriber, recipes, device) for codec in codecs]
        if renders[0]:
            rows[f"{what}, redrummed (--engine latent)"] = KitGain.of(*renders)
    agreement = [coded_transcriptions(codec, transcriber, judges) for codec in codecs]
    names = ("onsets within 20 ms", "classes within 50 ms")
    table = {
        name: {"before": f"{old:.3f}", "after": f"{new:.3f}"}
        for name, old, new in zip(names, *agreement, strict=True)
    }
    shown = [("as it is", judges[0])]
    shown += [(n, round_trip(c, judges[0])) for n, c in zip(("before", "after"), codecs, strict=True)]
    scores: dict[str, Any] = {
        DISTANCES: {row: gain.cells() for row, gain in rows.items()},
        "F of what is detected in the original and in what is decoded": table,
    }
    return scores, shown, next(iter(rows.values()))


def _data(folder: KitFolder, base: Preset, history: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return what the card states beside scores."""
    best = min(history, key=lambda entry: entry[1])
    return {
        "about": f"Preset {base.name} with its generator fine-tuned on a kit of one's own: {folder.summary}.",
        "codec-generator": f"Fine-tuned from that of preset {base.name} by `redrum train kit`. Of "
        f"{int(history[-1][0])} steps, those up to step {int(best[0])} are used, which coded what was held "
        "out best. Encoder and all other models are as they were.",
        "sources": [*_listed(base.data, "sources"), f"A kit of one's own: {folder.summary}"],
        "limits": [
            *_listed(base.data, "limits"),
            "Other drums than this kit's may be coded worse: see the scores.",
        ],
        "licence": f"{base.data.get('licence', 'Not stated for the base.')} "
        "What was learned from the kit may be passed on only if the kit may.",
    }


def _listed(data: Mapping[str, object], key: str) -> list[str]:
    entries = data.get(key, [])
    return [str(entry) for entry in entries] if isinstance(entries, list) else []


def draw_gain(path: Path, history: Sequence[Sequence[float]], shown: Sequence[tuple[str, Audio]]) -> None:
    """Draw distances over steps and spectrograms of a recording; nothing without matplotlib."""

    def draw(figure: Figure) -> None:
        curves, *pictures = figure.subplots(1 + len(shown), 1)
        steps, own, others = zip(*history, strict=True)
        curves.plot(steps, own, marker=".", label="the kit, held out", color="#0072B2")
        curves.plot(steps, others, marker=".", label="other drums", color="#999999")
        curves.set(xlabel="step", ylabel="log-mel distance in dB", ylim=(0, None))
        curves.legend()
        for axes, (name, audio) in zip(pictures, shown, strict=True):
            show_spectrogram(axes, audio)
            axes.set(ylabel="mel band", title=name)
        pictures[-1].set_xlabel("seconds")

    write_picture(path, (10, 9), draw)
