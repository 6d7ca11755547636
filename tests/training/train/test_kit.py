import json
import types
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from training.__main__ import app
from training.data.kit_folder import read_kit_folder
from training.data.segments import SegmentSettings
from training.data.synthesis import SynthesisSettings
from training.score.codec import round_trip
from training.score.kit import (
    KitGain,
    filled,
    latent_distances,
    played,
    redrummed,
    rendered,
    split_hits,
    with_held_out,
)
from training.score.measures import log_mel_distance_db
from training.train import kit as module
from training.train import kit_preset, loop
from training.train.kit import (
    Base,
    KitTraining,
    Material,
    other_recordings,
    shipped_grooves,
    train_kit,
    validation_grooves,
)
from training.train.kit_preset import PICTURE, export_kit, gains, name_for, place_for
from transform.codec import Codec, CodecNet
from transform.errors import AudioError, CheckpointError, OutputError, RedrumError, SettingsError
from transform.events import CLASSES
from transform.preset_archive import export_preset, import_preset
from transform.presets import load_preset
from transform.transcriber import Transcriber, TranscriberNet


@pytest.fixture(scope="module")
def base(tmp_path_factory, write_untrained):
    return Base.load(write_untrained(tmp_path_factory.mktemp("base") / "base"))


@pytest.fixture
def folder(tmp_path, hit):
    """Return a folder of nine one-shots, two of each class but one."""
    kit = tmp_path / "My Kit"
    kit.mkdir()
    for i, name in enumerate(("kick", "snare", "tom", "hat", "crash")):
        for level in (0.2, 0.8)[: 1 if name == "crash" else 2]:
            soundfile.write(kit / f"{name} {level}.wav", level * hit(CLASSES[i], i + int(10 * level)), 44_100)
    return kit


def settings_of(**changes):
    small = {
        "batch": 2,
        "validate_every": 2,
        "n_validation": 2,
        "n_scored": 3,
        "n_latent": 2,
        "pool_size": 1,
        "warm_up": 1,
        "learning_rate": 3e-3,
        "synthesis": SynthesisSettings(n_samples=22_050),
        "kit_sounds": replace(KitTraining().kit_sounds, n_samples=24_576),
        "pieces": SegmentSettings(n_samples=8192, per_recording=2),
    }
    return KitTraining(**(small | changes))


@pytest.fixture(autouse=True)
def _light(groove, hit, monkeypatch):
    """A few made rhythms and other drums in the place of the shipped ones."""
    made = [groove(f"made {i}", "train" if i % 2 else "validate", bpm=90.0 + 10 * i) for i in range(4)]
    for place in (module, kit_preset):
        monkeypatch.setattr(place, "shipped_grooves", lambda: made)
        monkeypatch.setattr(place, "other_recordings", lambda settings, device: [hit("SD", 5, length_s=0.5)])
    monkeypatch.setattr(module, "_demo_loops", lambda: [("loop", torch.from_numpy(hit("CY", 6, length_s=3.0)))])


@pytest.fixture
def users(tmp_path, monkeypatch):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def stops(stop_after, monkeypatch):
    monkeypatch.setattr(module, "time", loop.time)
    return stop_after


def test_held_out_hits_are_inner_layers_and_no_voice_is_left_empty(kit):
    voices = [("SD", "")] * 6 + [("KD", "")] * 3 + [("CY", "crash")] * 3
    whole = kit("made", "train", voices=voices)
    whole = replace(
        whole, one_shots=tuple(replace(s, level_db=-float(i)) for i, s in enumerate(whole.one_shots))
    )
    left, held = split_hits(whole, seed=0)
    assert len(held.one_shots) == 2  # a sixth
    assert {shot.drum_class for shot in held.one_shots} == {"SD"} | {s.drum_class for s in held.one_shots} - {
        "SD"
    }
    for shot in held.one_shots:
        levels = [other.level_db for other in whole.voices(shot.drum_class)[shot.articulation]]
        assert min(levels) < shot.level_db < max(levels)
    assert len(left.one_shots) == 10
    assert not {id(s) for s in left.one_shots} & {id(s) for s in held.one_shots}
    alone = kit("alone", "train")
    assert split_hits(alone, seed=0) == (alone, None)


def test_a_class_that_a_kit_lacks_is_played_by_the_nearest(kit):
    bare = kit("bare", "train", voices=[("KD", ""), ("HH", "open")])
    whole = filled(bare)
    sounds = {c: [id(s.samples) for hits in whole.voices(c).values() for s in hits] for c in CLASSES}
    kick, hat = (id(s.samples) for s in bare.one_shots)
    assert sounds == {"KD": [kick], "SD": [hat], "TT": [kick], "HH": [hat], "CY": [hat]}


def test_judges_play_nothing_but_what_was_held_out(kit, groove):
    silent = kit("silent", "train", voices=[("SD", "")])
    silent = replace(silent, one_shots=tuple(replace(s, samples=0 * s.samples) for s in silent.one_shots))
    recipes = played(silent, [groove(n_beats=16.0)], n=2, seed=0)
    assert all(np.abs(sound).max() == 0 for sound in rendered(recipes))
    loud = with_held_out(kit("known", "train", voices=[("SD", ""), ("KD", "")]), silent)
    assert {(s.drum_class, float(s.samples.abs().max()) > 0) for s in loud.one_shots} == {
        ("SD", False),
        ("KD", True),
    }


def test_what_judges_is_not_what_trains():
    grooves = shipped_grooves()
    sides = {side: {g.name for g in grooves if g.split == side} for side in ("train", "validate")}
    assert len(sides["validate"]) == pytest.approx(len(grooves) / 5, abs=1)
    assert not sides["train"] & sides["validate"]
    assert {g.name for g in validation_grooves(grooves)} <= sides["validate"]
    waltz = next(g for g in grooves if g.name == "waltz-three-four-96")
    assert (waltz.bpm, waltz.n_beats % 3) == (96.0, 0.0)
    assert len(waltz.onset_beats) == len(waltz.class_index) == len(waltz.velocity) == len(waltz.articulation)
    others = other_recordings(settings_of(), torch.device("cpu"))
    assert len(others) == 7  # made ones, and the half of the loop that is not trained on


def test_a_gain_is_that_of_the_means_and_its_interval_of_pairs():
    gain = KitGain.of([4.0, 2.0, 3.0, 3.0], [2.0, 1.0, 1.5, 1.5])
    assert (gain.before, gain.after, gain.lower_by) == (3.0, 1.5, 0.5)
    assert (gain.low, gain.high) == pytest.approx((0.5, 0.5))
    mixed = KitGain.of([3.0, 3.0, 3.0, 3.0], [1.0, 5.0, 1.0, 5.0])
    assert mixed.lower_by == 0.0
    assert mixed.low < -0.2 < 0.2 < mixed.high
    assert gain.cells() == {"before": "3.00 dB", "after": "1.50 dB", "change": "-50% (-50% to -50%)"}


@pytest.mark.slow
def test_fifty_steps_on_a_few_pieces_bring_held_out_hits_nearer(base, folder, tmp_path):
    material = Material.of(read_kit_folder(folder), 0)
    settings = settings_of(learning_rate=1e-2, general=0.0, batch=4)
    run = module._Run(material, base, tmp_path, settings, torch.device("cpu"))
    pieces = run.batch_of(0)
    losses = [run.train_step(pieces) for _ in range(50)]
    run.validate()
    (before, *_), (after, *_) = ((own, others) for _, own, others in run.history)
    assert losses[-1] < 0.7 * losses[0]
    assert after < 0.7 * before


@pytest.mark.slow
def test_the_preset_holds_the_base_its_own_generator_and_both_scores(
    base, folder, tmp_path, users, monkeypatch
):
    found, settings = read_kit_folder(folder), settings_of(steps=6)
    checkpoint = train_kit(found, base, tmp_path / "run", settings)
    target = place_for("mine", None)
    made = export_kit(checkpoint, found, base, target, settings, name="mine", command="a command")
    assert target == users / "presets" / "mine"
    assert load_preset("mine").sha256 == made.sha256
    assert (target / PICTURE).read_bytes().startswith(b"\x89PNG")
    for model in ("transcriber", "codec-encoder"):
        assert made.models[model].sha256 == base.preset.models[model].sha256
    assert made.models["codec-generator"].sha256 != base.preset.models["codec-generator"].sha256

    # What the preset says of itself is what its weights do to hits that were held out.
    codecs = [Codec.load(p.weights("codec-encoder"), p.weights("codec-generator")) for p in (base.preset, made)]
    material = Material.of(found, settings.seed)
    judges = material.judges(validation_grooves(module.shipped_grooves()), n=3, seed=settings.seed + 7)
    held, others = gains(made)
    assert held[0] == "held-out hits, coded and decoded"
    stated = {}
    for name, codec in zip(("before", "after"), codecs, strict=True):
        distance = np.mean([log_mel_distance_db(round_trip(codec, sound), sound) for sound in judges])
        stated[name] = float(held[1][name].removesuffix(" dB"))
        assert stated[name] == pytest.approx(distance, abs=0.03)  # weights are rounded when they are written
    assert stated["after"] < stated["before"] - 0.06  # told apart
    assert others[0] == "other drums, coded and decoded"
    card = (target / "CARD.md").read_text(encoding="utf-8")
    assert "# Preset `mine`" in card
    assert "9 one-shots (2 KD, 2 SD, 2 TT, 2 HH, 1 CY)" in card
    assert "| held-out hits, coded and decoded | " in card

    # It travels as any other preset does.
    export_preset(made, tmp_path / "mine.redrum")
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "elsewhere"))
    assert import_preset(tmp_path / "mine.redrum").sha256 == made.sha256

    with pytest.raises(OutputError, match="there is a preset called mine already"):
        place_for("mine", None)
    with pytest.raises(OutputError, match="exists already"):
        export_kit(checkpoint, found, base, target, settings, name="mine", command="")


def test_terms_count_as_in_the_codecs_training(base, folder, tmp_path):
    run = module._Run(
        Material.of(read_kit_folder(folder), 0), base, tmp_path, settings_of(), torch.device("cpu")
    )
    batch = run.batch_of(0)
    spectra, terms = run.spectra, {}
    run.spectra = lambda *pair: terms.setdefault("found", spectra(*pair))
    loss = run.loss_of(replace(batch, onsets=torch.full_like(batch.onsets, -1)))
    found = {name: float(value.detach()) for name, value in terms["found"].items()}
    expected = 3 * found["mel"] + 3 * found["stft"] + 2 * found["bands"] + 3 * found["wave"]
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert min(found[name] for name in ("mel", "stft", "bands", "wave")) > 0
    loss.backward()
    assert any(p.grad.any() for p in run.net.parameters())


def test_the_best_weights_are_kept_not_the_last(base, folder, tmp_path, monkeypatch):
    distances = iter([5.0, 9.0, 3.0, 9.0, 4.0, 9.0, 3.5, 9.0])
    monkeypatch.setattr(module, "coded_distances", lambda codec, originals: [next(distances)])
    averages = []
    validate = module._Run.validate

    def remembered(self):
        averages.append({name: value.clone() for name, value in self.average.state_dict().items()})
        return validate(self)

    monkeypatch.setattr(module._Run, "validate", remembered)
    state = torch.load(train_kit(read_kit_folder(folder), base, tmp_path / "run", settings_of(steps=6)))
    assert len(averages) == 4
    assert (
        len(list((tmp_path / "run" / "samples").iterdir())) == 3
    )  # not of the beginning, which is validated, too
    assert all(torch.equal(value, averages[1][name]) for name, value in state["best"].items())
    assert any(not torch.equal(value, averages[3][name]) for name, value in state["best"].items())


def killed():
    raise KeyboardInterrupt


def test_a_resumed_run_is_the_same_run(base, folder, tmp_path, monkeypatch):
    found, settings = read_kit_folder(folder), settings_of(steps=6)
    whole = torch.load(train_kit(found, base, tmp_path / "whole", settings))
    step = loop.Run.train_step
    monkeypatch.setattr(
        loop.Run, "train_step", lambda run, batch: killed() if run.step == 3 else step(run, batch)
    )
    with pytest.raises(KeyboardInterrupt):
        train_kit(found, base, tmp_path / "parts", settings)
    monkeypatch.setattr(loop.Run, "train_step", step)
    assert torch.load(tmp_path / "parts" / "kit.pt")["step"] == 2
    parts = torch.load(train_kit(found, base, tmp_path / "parts", settings, resume=True))
    assert parts["step"] == 6
    assert json.loads(parts["kit"])["history"] == json.loads(whole["kit"])["history"]
    for name in ("net", "average"):
        assert all(torch.equal(value, whole[name][key]) for key, value in parts[name].items())


@pytest.mark.slow
def test_minutes_are_those_of_the_whole_run_and_the_rate_falls_over_them(base, folder, tmp_path, stops):
    found, settings = read_kit_folder(folder), settings_of(steps=1000, learning_rate=1.0, last_rate=0.1)
    rates = []
    rate = module._Run.learning_rate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Run, "learning_rate", lambda run: rates.append(rate(run)) or 1e-6)
        checkpoint = train_kit(found, base, tmp_path / "run", settings, **stops(4))
        assert torch.load(checkpoint)["step"] == 4
        train_kit(found, base, tmp_path / "run", settings, max_minutes=8, resume=True)
    assert torch.load(checkpoint)["step"] == 8
    expected = [0.1 + 0.45 * (1 + np.cos(np.pi * done)) for done in (2 / 3.5, 3 / 3.5, 1.0)]
    assert rates[1:4] == pytest.approx(expected, rel=0.01)
    expected = [0.1 + 0.45 * (1 + np.cos(np.pi * minute / 8)) for minute in (5, 6, 7, 8)]
    assert rates[4:8] == pytest.approx(expected, rel=0.01)
    before = checkpoint.read_bytes()
    assert train_kit(found, base, tmp_path / "run", settings, max_minutes=8, resume=True) == checkpoint
    assert checkpoint.read_bytes() == before


def test_minutes_include_the_comparison(base, folder, tmp_path, monkeypatch):
    """A step takes a minute of a made clock, coding a recording a second."""
    clock, step = types.SimpleNamespace(now_s=0.0), loop.Run.train_step

    def later(seconds, result):
        clock.now_s += seconds
        return result

    for place in (loop, module):
        monkeypatch.setattr(place, "time", types.SimpleNamespace(monotonic=lambda: clock.now_s))
    monkeypatch.setattr(loop.Run, "train_step", lambda run, batch: later(60, step(run, batch)))
    monkeypatch.setattr(module, "coded_distances", lambda codec, sounds: later(len(sounds), [3.0]))
    found, settings = read_kit_folder(folder), settings_of(steps=100, validate_every=100)
    compared_s = module._COMPARED_AS + 3 * module._SCORED_AS
    train_kit(found, base, tmp_path / "long", settings, max_minutes=20)
    assert 20 * 60 - 90 <= clock.now_s + compared_s <= 20 * 60 + 60  # a step is finished
    clock.now_s = 0.0
    with pytest.raises(SettingsError, match="minutes are too few on this machine") as caught:
        train_kit(found, base, tmp_path / "hurry", settings, max_minutes=1)
    least = int(caught.value.hint.split()[2])
    assert 60 * least > compared_s
    clock.now_s = 0.0
    train_kit(found, base, tmp_path / "hurry", settings, max_minutes=least)
    clock.now_s = 0.0
    many = replace(settings, n_scored=100)
    state = torch.load(train_kit(found, base, tmp_path / "short", many, max_minutes=15))
    assert 50 <= json.loads(state["kit"])["n_scored"] <= 55
    assert 10 * 60 - 60 <= clock.now_s <= 10 * 60 + 60  # the comparison gets a third


def test_a_preset_is_made_of_a_gain_only_unless_it_is_requested(base, folder, tmp_path, monkeypatch):
    found, settings = read_kit_folder(folder), settings_of(steps=1, n_latent=0)
    checkpoint = train_kit(found, base, tmp_path / "run", settings)
    monkeypatch.setattr(kit_preset, "coded_distances", lambda codec, sounds: [3.0, 2.0])
    given = (checkpoint, found, base)
    with pytest.raises(RedrumError, match=r"nothing was gained: the kit is 2\.50 dB from") as caught:
        export_kit(*given, tmp_path / "made", settings, name="made", command="", needs_gain=True)
    assert "--export DIR" in caught.value.hint
    assert not (tmp_path / "made").exists()
    assert export_kit(*given, tmp_path / "made", settings, name="made", command="").name == "made"


def test_a_run_is_resumed_with_its_own_sounds_and_preset_only(base, folder, tmp_path, hit):
    found, settings = read_kit_folder(folder), settings_of(steps=2)
    train_kit(found, base, tmp_path / "run", settings)
    with pytest.raises(CheckpointError, match="exists"):
        train_kit(found, base, tmp_path / "run", settings)
    soundfile.write(folder / "kick new.wav", hit("KD", 77), 44_100)
    with pytest.raises(CheckpointError, match="was begun with other sounds"):
        train_kit(read_kit_folder(folder), base, tmp_path / "run", settings, resume=True)
    torch.manual_seed(1)
    other = Base(
        base.preset, replace(base.trained, generator=CodecNet(base.trained.encoder.config).generator), None
    )
    with pytest.raises(CheckpointError, match="was begun with another preset"):
        train_kit(found, other, tmp_path / "run", settings, resume=True)


@pytest.mark.slow
def test_with_a_transformer_its_renders_are_scored_too(folder, tmp_path, monkeypatch, write_untrained):
    base = Base.load(write_untrained(tmp_path / "base", with_rhythm=True))
    found, settings = read_kit_folder(folder), settings_of(steps=2)
    checkpoint = train_kit(found, base, tmp_path / "run", settings)
    monkeypatch.setattr(
        "training.train.kit_preset.latent_distances",
        lambda codec, net, listener, recipes, device: [4.0, 2.0] if codec_is(codec, base) else [3.0, 1.5],
    )
    made = export_kit(checkpoint, found, base, tmp_path / "preset", settings, name="x", command="")
    assert dict(gains(made))["held-out hits, redrummed (--engine latent)"]["change"] == "-25% (-25% to -25%)"
    assert made.models["rhythm"].sha256 == base.preset.models["rhythm"].sha256


def test_renders_are_compared_with_the_kit_itself(kit, groove, write_untrained, tmp_path):
    base = Base.load(write_untrained(tmp_path / "base", with_rhythm=True))
    recipes = played(kit("made", "train"), [groove(n_beats=16.0)], n=2, seed=0)
    codec = Codec(base.trained.encoder, base.trained.generator)
    ears = base.trained.transcriber.config
    deaf, sharp = (
        Transcriber(TranscriberNet(replace(ears, thresholds=(threshold,) * 5))) for threshold in (0.99, 1e-3)
    )
    made = redrummed(codec, base.rhythm, sharp, recipes, "cpu")
    assert [len(audio) for audio, _ in made] == [4 * 44_100] * 2
    for (_, oracle), target in zip(made, (recipes[1], recipes[0]), strict=True):
        assert [s.onset_s for s in oracle.strokes] == [s.onset_s for s in target.strokes]
    expected = [log_mel_distance_db(audio, rendered([oracle])[0]) for audio, oracle in made]
    assert latent_distances(codec, base.rhythm, sharp, recipes, "cpu") == pytest.approx(expected)
    assert latent_distances(codec, base.rhythm, deaf, recipes, "cpu") == []


def codec_is(codec, base):
    return codec._generator is base.trained.generator


def test_recordings_alone_are_judged_by_their_ends(base, tmp_path, hit):
    (tmp_path / "kit" / "recordings").mkdir(parents=True)
    bar = np.concatenate([hit(c) for c in ("KD", "HH", "SD", "HH")])
    # It is judged by its last 12 s, of which 5 s in the middle are silent.
    take = np.concatenate([np.tile(bar, 88), np.zeros(220_500), np.tile(bar, 6)]).astype(np.float32)
    soundfile.write(tmp_path / "kit" / "recordings" / "take.wav", take, 44_100)
    found, settings = read_kit_folder(tmp_path / "kit"), settings_of(steps=2)
    material = Material.of(found, 0)
    n_known = len(material.recordings[0])
    assert n_known == round(0.8 * len(found.recordings[0][1]))
    ends = material.judges([], n=4, seed=0)
    assert [len(end) for end in ends] == [176_400] * 2
    assert np.array_equal(ends[0], found.recordings[0][1].numpy()[-176_400:])
    assert len(found.recordings[0][1]) - n_known >= 3 * 176_400
    assert all(np.abs(end).max() > 0.5 for end in ends)
    made = export_kit(
        train_kit(found, base, tmp_path / "run", settings),
        *(found, base, tmp_path / "preset", settings),
        name="take",
        command="",
    )
    assert gains(made)[0][0] == "its recordings' ends, coded and decoded"


@pytest.mark.parametrize(("name", "made"), [("My Kit", "my-kit"), ("Größe 808!", "gr-e-808"), ("../up", "up")])
def test_the_folder_names_the_preset(tmp_path, name, made):
    assert name_for(tmp_path / name, None) == made


def test_hostile_preset_names_are_refused(tmp_path, users):
    for name in ("../up", "a/b", "Kit", "kit\n", "", "kit.", "CON:", "con", "lpt1", "aux.x", "kit "):
        with pytest.raises(SettingsError, match="cannot name a preset"):
            name_for(tmp_path, name)
    with pytest.raises(SettingsError, match="no name can be made"):
        name_for(tmp_path / "ドラム", None)
    with pytest.raises(SettingsError, match="'nul' cannot name a preset"):
        name_for(tmp_path / "NUL", None)
    with pytest.raises(OutputError, match="default already"):
        place_for("default", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep me")
    with pytest.raises(OutputError, match="exists already"):
        place_for("x", tmp_path / "full")


def test_no_preset_is_made_through_a_link(tmp_path, users):
    (users / "presets").mkdir(parents=True)
    try:
        (users / "presets" / "mine").symlink_to(tmp_path / "elsewhere")
    except OSError:
        pytest.skip("this user may make no links")
    with pytest.raises(OutputError, match="mine already"):
        place_for("mine", None)


@pytest.fixture
def command(monkeypatch):
    """Return a function that runs the command with settings that take seconds."""
    monkeypatch.setattr(module, "KitTraining", settings_of)
    return lambda *args: CliRunner().invoke(app, ["kit", *map(str, args)])


@pytest.mark.slow
def test_the_command_goes_from_a_folder_to_a_preset_and_never_replaces_it(command, base, folder, users, hit):
    soundfile.write(folder / "bongo.wav", hit("TT", 9), 44_100)
    args = (folder, "--preset", base.preset.folder, "--device", "cpu", "--steps", 2)
    done = command(*args)
    assert done.exit_code == 0, done.stderr
    assert "bongo.wav: left out; no drum is named: say in kit.toml what it is\n" in done.stdout
    assert "9 one-shots (2 KD, 2 SD, 2 TT, 2 HH, 1 CY), 0 s of recordings, 1 files left out\n" in done.stdout
    assert f"{users / 'presets' / 'my-kit'}: preset my-kit\n" in done.stdout
    assert "held-out hits, coded and decoded: before " in done.stdout
    assert load_preset("my-kit").models.keys() == base.preset.models.keys()
    before = load_preset("my-kit").sha256

    again = command(*args)
    assert again.exit_code == 1
    assert "there is a preset called my-kit already" in again.stderr
    other = command(*args[:-1], 4, "--name", "better", "--resume", "--out", users / "training" / "my-kit")
    assert other.exit_code == 0, other.stderr
    assert load_preset("my-kit").sha256 == before
    assert load_preset("better").models["codec-generator"].command.startswith("redrum train kit FOLDER")


def test_the_command_refuses_what_cannot_be_trained_before_any_work(command, base, tmp_path, users):
    (tmp_path / "empty").mkdir()
    few = command(tmp_path / "empty", "--preset", base.preset.folder)
    assert few.exit_code == AudioError.exit_code
    assert "holds 0 usable one-shots" in few.stderr
    none = command(tmp_path / "nowhere")
    assert none.exit_code == 1
    assert "is no folder" in none.stderr
    hurry = command(tmp_path / "empty", "--max-minutes", 0)
    assert hurry.exit_code == 2
    assert not users.exists()
