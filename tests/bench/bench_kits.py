"""Measure what fine-tuning gains on kits that were not trained on, and what it costs.

    python tests/bench/bench_kits.py --data PACK --out DIR

Of each kit twelve one-shots are given to `redrum train kit`; the other layers of the same voices judge. Rhythm
scores are those of the evaluation transcriber. A run that was stopped goes on.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer

from training.bench.benchmark import clustered_mean
from training.data.kit_folder import read_kit_folder
from training.data.kits import SAMPLE_RATE, Kit
from training.data.pack import Pack, PackError, load_pack
from training.data.synthesis import SegmentRecipe, audible_strokes, render_stems
from training.score.codec import kit_originals, round_trip
from training.score.kit import played, redrummed, rendered, with_held_out
from training.score.measures import Audio, any_onset_f, log_mel_distance_db
from training.score.scores import class_counts, pooled
from training.score.transcriber import as_events
from training.train.evaluation_transcriber import load_evaluation_transcriber
from training.train.kit import Base, KitTraining, train_kit
from training.train.kit_preset import export_kit
from transform.codec import Codec, load_generator
from transform.errors import SettingsError
from transform.events import CLASSES, DrumEvent, nearest_class
from transform.files import write_text_atomic
from transform.presets import Preset, load_preset
from transform.terminal import guard_output
from transform.transcriber import Transcriber

# Two acoustic kits with velocity layers, and one that is electronic, all of the test side.
KITS = ("avl-red-zeppelin", "h2-gmrock", "synth-fm-1")

_CODED, _LATENT = "oracle through the codec", "latent renders"
_HELD_OUT, _WHOLE, _OTHERS = "held-out layers", "whole kit", "other kits of its side"
_SCORES = ("log_mel_db", "onset_f_20", "class_f_50")


@dataclass(frozen=True, kw_only=True)
class KitBench:
    """What is measured."""

    kits: tuple[str, ...] = KITS
    minutes: float = 20.0  # of training, a kit
    n_one_shots: int = 12
    n_recordings: int = 40  # a kind and kit
    n_latent: int = 12
    seed: int = 0
    training: KitTraining = field(default_factory=KitTraining)

    def __post_init__(self) -> None:
        for name in ("n_one_shots", "n_recordings", "n_latent"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.minutes > 0:
            raise SettingsError(f"--max-minutes is {self.minutes:g}; it must be above 0")


@dataclass(frozen=True)
class _Item:
    """A recording by which both generators are judged."""

    audio: Audio
    events: tuple[DrumEvent, ...]
    hardly_audible: tuple[DrumEvent, ...]
    rhythm: str


def divided(kit: Kit, n: int, seed: int) -> tuple[Kit, Kit]:
    """Return `n` one-shots of a kit, dealt out over its voices, and the other layers of the same voices.

    Raises:
        PackError: no layer of a voice would be left.
    """
    rng = np.random.default_rng(seed)
    voices: dict[tuple[str, str], list[int]] = {}
    for i, shot in enumerate(kit.one_shots):
        voices.setdefault((shot.drum_class, shot.articulation), []).append(i)
    dealt = [rng.permutation(voices[key]).tolist() for key in sorted(voices)]
    order = [hits[turn] for turn in range(max(map(len, dealt))) for hits in dealt if turn < len(hits)]
    given = sorted(order[:n])
    voiced = {(kit.one_shots[i].drum_class, kit.one_shots[i].articulation) for i in given}
    left = [i for key in voiced for i in voices[key] if i not in given]
    if not left:
        raise PackError(f"{kit.name} has no layers beside {n} one-shots", hint="name another kit with --kit")
    first, other = (tuple(kit.one_shots[i] for i in sorted(chosen)) for chosen in (given, left))
    return replace(kit, one_shots=first), replace(kit, one_shots=other)


def write_one_shots(kit: Kit, folder: Path) -> None:
    """Write a kit as its user would have it: a file a hit, at its own level."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, shot in enumerate(kit.one_shots):
        name = "_".join(filter(None, (shot.drum_class, shot.articulation, f"{i:02}")))
        sound = shot.samples.numpy() * 10 ** (shot.level_db / 20)
        soundfile.write(folder / f"{name}.wav", sound, SAMPLE_RATE, subtype="FLOAT")


def measure(
    pack: Pack, preset: Preset, out: Path, settings: KitBench, announce: Callable[[str], None]
) -> dict[str, Any]:
    """Fine-tune on each kit, and return what it did to recordings of it and of others.

    Raises:
        PackError: the pack lacks a kit, or layers that judge it.
        CheckpointError: the preset lacks a codec, or a run in `out` is of other sounds.
    """
    kits = {kit.name: kit for kit in pack.kits if kit.split in ("validate", "test")}
    if missing := [name for name in settings.kits if name not in kits]:
        raise PackError(
            f"the pack holds no held-out kit called {', '.join(missing)}", hint="pack the test side too"
        )
    base, judge = Base.load(preset), load_evaluation_transcriber()
    entries: list[dict[str, Any]] = []
    for name in settings.kits:
        announce(f"{name}: training")
        given, left = divided(kits[name], settings.n_one_shots, settings.seed)
        made = _fine_tuned(given, base, out / name, settings)
        after = load_generator(made.weights("codec-generator"))
        codecs = [Codec(base.trained.encoder, generator) for generator in (base.trained.generator, after)]
        announce(f"{name}: measuring")
        entries += [{"kit": name} | e for e in _judged(pack, given, left, base, codecs, judge, settings)]
    return {"schema": 1, "settings": asdict(settings), "rows": _rows(entries), "items": entries}


def _fine_tuned(given: Kit, base: Base, folder: Path, settings: KitBench) -> Preset:
    """Return the preset of a kit, trained now unless it is there already."""
    target = folder / "preset"
    if not (target / "preset.toml").exists():
        write_one_shots(given, folder / "one-shots")
        found = read_kit_folder(folder / "one-shots")
        resume = (folder / "run" / "kit.pt").exists()
        how: dict[str, Any] = {"max_minutes": settings.minutes, "resume": resume}
        checkpoint = train_kit(found, base, folder / "run", settings.training, **how)
        command = f"python tests/bench/bench_kits.py --kit {given.name}"
        export_kit(checkpoint, found, base, target, settings.training, name=given.name, command=command)
    return load_preset(target)


def _judged(
    pack: Pack,
    given: Kit,
    left: Kit,
    base: Base,
    codecs: Sequence[Codec],
    judge: Transcriber,
    settings: KitBench,
) -> Iterator[dict[str, Any]]:
    """Yield the scores before and after of each recording."""
    n, seed = settings.n_recordings, settings.seed
    others = [o for o in kit_originals(pack, given.split, n=n, seed=seed, length_s=4.0) if o.name != given.name]
    for what, items in (
        (_HELD_OUT, [item for item, _ in _recordings(pack, left, n, seed)]),
        (_WHOLE, [item for item, _ in _recordings(pack, with_held_out(given, left), n, seed)]),
        (_OTHERS, [_Item(o.audio, o.events, o.hardly_audible, o.name) for o in others]),
    ):
        for item in items:
            scores = [_scores(round_trip(codec, item.audio), item, judge) for codec in codecs]
            yield {"what": f"{what}, {_CODED}", "rhythm": item.rhythm, "before": scores[0], "after": scores[1]}
    if base.rhythm is None:
        return
    recordings = _recordings(pack, with_held_out(given, left), settings.n_latent, seed)
    recipes, transcriber = [recipe for _, recipe in recordings], Transcriber(base.trained.transcriber)
    for pair in zip(*(redrummed(c, base.rhythm, transcriber, recipes, "cpu") for c in codecs), strict=True):
        item = _item(pair[0][1], with_held_out(given, left), "")
        scores = [_scores(audio, item, judge) for audio, _ in pair]
        yield {"what": f"{_WHOLE}, {_LATENT}", "rhythm": "", "before": scores[0], "after": scores[1]}


def _recordings(pack: Pack, kit: Kit, n: int, seed: int) -> list[tuple[_Item, SegmentRecipe]]:
    """Return recordings of a kit that play rhythms of its side, without any room."""
    grooves = [groove for groove in pack.grooves_of(kit.split) if groove.n_beats >= 8]
    rng = np.random.default_rng(seed)
    found = []
    for i in range(10 * n):
        groove = grooves[rng.integers(len(grooves))]
        recipes = played(kit, [groove], n=1, seed=seed + i)
        found += [(_item(recipe, kit, groove.name), recipe) for recipe in recipes]
        if len(found) == n:
            break
    return found


def _item(recipe: SegmentRecipe, kit: Kit, rhythm: str) -> _Item:
    """Return a recording with its truth, strokes being of the class whose sound plays them."""
    own = {shot.drum_class for shot in kit.one_shots}
    audible = audible_strokes(render_stems(recipe), recipe.strokes)
    sounding = {c: nearest_class(c, own) or c for c in CLASSES}
    events, hardly_audible = (
        tuple(replace(e, drum_class=sounding[e.drum_class], articulation="") for e in events)
        for events in (as_events(recipe, audible), as_events(recipe, ~audible))
    )
    return _Item(rendered([recipe])[0], events, hardly_audible, rhythm)


def _scores(audio: Audio, item: _Item, judge: Transcriber) -> dict[str, float]:
    detected = judge.events(judge.infer(torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))))
    counts = class_counts(item.events, detected, ignored=item.hardly_audible)
    return {
        "log_mel_db": log_mel_distance_db(audio, item.audio),
        "onset_f_20": any_onset_f(item.events, detected, ignored=item.hardly_audible, window_s=0.02),
        "class_f_50": pooled(counts).f_measure,
    }


def _rows(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return means before and after, and of the differences, by what was judged, for each kit and all."""
    rows = []
    kits = list(dict.fromkeys(entry["kit"] for entry in entries))
    for what in dict.fromkeys(entry["what"] for entry in entries):
        for kit in ("all", *kits):
            own = [e for e in entries if e["what"] == what and kit in ("all", e["kit"])]
            # Rhythms are drawn anew, and kits where there are several; a row of one kit is about that kit.
            labels = [e["kit"] for e in own], [f"{e['rhythm']} {i}" for i, e in enumerate(own)]
            row: dict[str, Any] = {"what": what, "kit": kit, "n": len(own)}
            for name in _SCORES:
                before, after = ([e[when][name] for e in own] for when in ("before", "after"))
                change = clustered_mean(
                    [new - old for old, new in zip(before, after, strict=True)], *labels, n_resamples=2000
                )
                row[name] = {"before": float(np.mean(before)), "after": float(np.mean(after))}
                row[name] |= {"change": change.mean, "low": change.low, "high": change.high}
            rows.append(row)
    return rows


def report(result: Mapping[str, Any]) -> str:
    """Return the figures as Markdown, with the issue's bar below."""
    head = ["judged", "kit", "recordings", "log-mel before", "after", "lower by"]
    head += ["any-onset F @20 ms", "class F @50 ms"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in result["rows"]:
        mel = row["log_mel_db"]
        lower = [-100 * mel[key] / mel["before"] for key in ("change", "high", "low")]
        cells = [row["what"], row["kit"], str(row["n"]), f"{mel['before']:.2f} dB", f"{mel['after']:.2f} dB"]
        cells.append(f"{lower[0]:.1f} % ({lower[1]:.1f} to {lower[2]:.1f})")
        for name in ("onset_f_20", "class_f_50"):
            f = row[name]
            cells.append(f"{f['before']:.3f}, {f['change']:+.3f} ({f['low']:+.3f} to {f['high']:+.3f})")
        lines.append("| " + " | ".join(cells) + " |")
    rows = (r for r in result["rows"] if r["kit"] == "all" and r["what"].startswith(_HELD_OUT))
    held_out = next(rows)["log_mel_db"]
    is_lower = held_out["change"] <= -0.15 * held_out["before"] and held_out["high"] < 0
    falls = [r[name]["change"] for r in result["rows"] if r["kit"] == "all" for name in _SCORES[1:]]
    lines += ["", f"At least 15 % lower on held-out layers, interval below 0: {'yes' if is_lower else 'NO'}"]
    lines += [
        f"No rhythm score lower by more than .01: {'yes' if min(falls) >= -0.01 else 'NO'} ({min(falls):+.3f})"
    ]
    return "\n".join(lines) + "\n"


def main(
    data: Annotated[Path, typer.Option(metavar="PACKDIR", help="A pack with its test side.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="For runs, presets and figures; a stopped one goes on.")
    ],
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="What is fine-tuned.")] = "default",
    kit: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A held-out kit; repeat it.")] = None,
    max_minutes: Annotated[float, typer.Option(metavar="N", help="Of training, a kit.")] = KitBench.minutes,
    recordings: Annotated[int, typer.Option(metavar="N", help="A kind and kit.")] = KitBench.n_recordings,
    seed: Annotated[int, typer.Option(metavar="N", help="Which hits are given, and what is played.")] = 0,
) -> None:
    """Measure `redrum train kit` on kits that were not trained on."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("training").setLevel(logging.INFO)
    settings = KitBench(kits=tuple(kit or KITS), minutes=max_minutes, n_recordings=recordings, seed=seed)
    announce: Callable[[str], None] = lambda what: typer.echo(what, err=True)  # noqa: E731
    result = measure(load_pack(data), load_preset(preset), out, settings, announce)
    write_text_atomic(out / "kits.json", json.dumps(result, indent=1) + "\n", overwrite=True)
    write_text_atomic(out / "kits.md", report(result), overwrite=True)
    typer.echo(report(result))


if __name__ == "__main__":
    guard_output()
    typer.run(main)
