import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from training.data.pack import Pack, PackError, write_pack
from training.data.rhythms import Stroke
from training.score.transcriber import make_recordings
from training.train import transcriber as module
from training.train.reports import read_log
from training.train.transcriber import (
    articulation_loss,
    export_transcriber,
    make_targets,
    train_transcriber,
    transcription_loss,
)
from transform.errors import CheckpointError, SettingsError
from transform.features import DrumFeatures, FeatureSettings
from transform.presets import load_preset
from transform.transcriber import ARTICULATIONS, TranscriberConfig, load_transcriber


def targets_of(*strokes, audible=None, n_frames=20):
    heard = np.ones(len(strokes), dtype=bool) if audible is None else np.array(audible)
    return make_targets([strokes], [heard], n_frames, 100.0)


def test_a_stroke_is_a_triangle_around_its_onset():
    targets = targets_of(Stroke(0.1025, "SD", "", 0.6), Stroke(0.05, "HH", "open", 0.3))
    assert targets.onset.shape == (1, 5, 20)
    snare = targets.onset[0, 1]
    assert snare.nonzero()[:, 0].tolist() == [9, 10, 11]
    assert snare[[9, 10, 11]].tolist() == pytest.approx([1 - 1.25 / 1.5, 1 - 0.25 / 1.5, 1 - 0.75 / 1.5])
    assert targets.offset[0, 1, 9:12].tolist() == pytest.approx([1.25, 0.25, -0.75])
    assert targets.velocity[0, 1, 9:12].tolist() == pytest.approx([0.6] * 3)
    assert torch.equal(targets.near, (targets.onset > 0).float())
    assert targets.weight.all()
    is_known = {name: targets.is_known[0, a].nonzero()[:, 0].tolist() for a, name in enumerate(ARTICULATIONS)}
    assert is_known == {"open": [4, 5, 6], "pedal": [4, 5, 6], "ride": [], "sidestick": [9, 10, 11]}
    assert targets.articulation[0].nonzero().tolist() == [[0, 4], [0, 5], [0, 6]]
    cymbals = targets_of(
        Stroke(0.05, "CY", "ride", 0.5), Stroke(0.1, "CY", "crash", 0.5), Stroke(0.15, "CY", "", 0.5)
    )
    assert cymbals.is_known[0, 2].nonzero()[:, 0].tolist() == [4, 5, 6, 9, 10, 11]
    assert cymbals.articulation[0, 2].nonzero()[:, 0].tolist() == [4, 5, 6]


def test_what_need_not_be_found_weighs_nothing():
    targets = targets_of(Stroke(0.1, "KD", "", 0.1), audible=[False])
    assert not targets.onset.any()
    assert targets.weight[0, 0].tolist() == [1] * 7 + [0] * 7 + [1] * 6
    assert targets.weight[0, 1:].all()
    grace = targets_of(Stroke(0.1, "SD", "", 0.4, is_grace=True))
    assert not grace.onset.any()
    assert not grace.weight[0, 1, 10]


@pytest.mark.parametrize("order", [1, -1])
def test_a_stroke_is_demanded_beside_one_that_need_not_be_found(order):
    strokes = [(Stroke(0.1, "SD", "", 0.9), True), (Stroke(0.1 + order * 0.025, "SD", "", 0.1), False)]
    strokes.sort()
    targets = targets_of(*(s for s, _ in strokes), audible=[heard for _, heard in strokes])
    assert targets.weight[0, 1, 9:12].all()
    assert targets.onset[0, 1].nonzero()[:, 0].tolist() == [9, 10, 11]


def test_of_two_near_strokes_each_frame_is_the_nearer_ones():
    targets = targets_of(Stroke(0.10, "KD", "", 0.2), Stroke(0.13, "KD", "", 0.9))
    assert targets.velocity[0, 0, 9:15].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.9, 0.9, 0.9])


def test_strokes_at_the_borders_stay_inside():
    targets = targets_of(
        Stroke(-0.004, "KD", "", 1.0), Stroke(-0.5, "KD", "", 1.0), Stroke(0.196, "SD", "", 1.0)
    )
    assert targets.onset[0, 0].nonzero()[:, 0].tolist() == [0, 1]
    assert targets.onset[0, 1].nonzero()[:, 0].tolist() == [19]


def test_a_stroke_on_the_first_sample_has_a_label_and_one_just_before_is_left_open():
    targets = targets_of(Stroke(0.0, "SD", "", 0.6))
    assert targets.onset[0, 1, :3].tolist() == pytest.approx([1.0, 1 / 3, 0.0])
    assert targets.offset[0, 1, :2].tolist() == pytest.approx([0.0, -1.0])
    assert targets.weight.all()
    cut_off = targets_of(Stroke(-0.02, "SD", "", 0.6), audible=[False])
    assert not cut_off.onset.any()
    assert cut_off.weight[0, 1, :4].tolist() == [0, 0, 1, 1]
    tail = targets_of(Stroke(-0.05, "SD", "", 0.6), audible=[False])  # none may be found here
    assert tail.weight.all()


def test_a_recordings_first_samples_look_as_after_silence(hit):
    features = DrumFeatures(FeatureSettings())
    audio = torch.from_numpy(hit("SD"))[None]
    silence = torch.zeros(1, 10 * 441)
    after_silence = features(torch.cat((silence, audio), dim=1))
    assert torch.allclose(features(audio), after_silence[:, :, 10:], atol=1e-5)
    assert features(audio)[0, 2, 0].max() > 0.5  # the rise of the attack


def test_a_run_begins_with_the_weights_of_a_preset(tiny_pack, small_training, tmp_path):
    settings = small_training(steps=2, validate_every=2)
    trained = train_transcriber(tiny_pack, tmp_path / "first", settings)
    export_transcriber(trained, tmp_path / "preset")
    preset = load_preset(tmp_path / "preset")
    begun = load_transcriber(preset.weights("transcriber"))
    still = small_training(steps=1, learning_rate=0.0)
    checkpoint = train_transcriber(tiny_pack, tmp_path / "second", still, begin=preset)
    state = torch.load(checkpoint)
    for name, value in begun.named_parameters():
        assert torch.equal(state["net"][name], value), name
        assert torch.allclose(state["average"][name], value, atol=1e-7), name
    assert json.loads(state["config"])["thresholds"] == list(begun.config.thresholds)
    assert state["step"] == 1
    other = small_training(model=TranscriberConfig(widths=(4, 4, 8, 8), d_model=8, dilations=(1, 2, 4)))
    with pytest.raises(CheckpointError, match="of another shape"):
        train_transcriber(tiny_pack, tmp_path / "third", other, begin=preset)


def test_loss_is_least_for_the_truth(small_training):
    targets = targets_of(Stroke(0.1025, "SD", "", 0.6), Stroke(0.05, "HH", "open", 0.3))
    settings = small_training()

    def loss(onset):
        columns = (torch.logit(onset, 1e-4), torch.logit(targets.velocity, 1e-4), targets.offset)
        logits = torch.cat((*columns, torch.logit(targets.articulation, 1e-4)), dim=1)
        return transcription_loss(logits, targets, settings)

    truth = loss(targets.onset)
    assert truth < loss(targets.onset.roll(2, dims=2))
    assert truth < loss(torch.full_like(targets.onset, 0.5))
    # Where nothing is demanded anything may be said.
    targets.weight.zero_()
    assert loss(targets.onset) == loss(1 - targets.onset)


def test_velocity_place_and_articulation_count_by_their_weights(small_training):
    targets = targets_of(Stroke(0.1025, "KD", "", 0.6), Stroke(0.05, "HH", "open", 0.3))
    settings = small_training(velocity_weight=3.0, offset_weight=5.0)
    velocity = torch.where(targets.near > 0, targets.velocity, 0.5)

    def loss(velocity_error=0.0, offset_error=0.0, open_logit=20.0, pedal_logit=-20.0):
        columns = (torch.logit(targets.onset, 1e-4), torch.logit(velocity + velocity_error))
        hat = torch.zeros_like(targets.articulation)
        hat[:, 0], hat[:, 1] = open_logit, pedal_logit
        logits = torch.cat((*columns, targets.offset + offset_error, hat), dim=1)
        return float(transcription_loss(logits, targets, settings))

    truth = loss()
    assert loss(velocity_error=0.1) - truth == pytest.approx(3.0 * 0.1, abs=1e-4)
    assert loss(offset_error=0.5) - truth == pytest.approx(5.0 * (0.5 - 0.2 / 2), abs=1e-4)
    assert loss(open_logit=0.0) - truth == pytest.approx(0.1 * np.log(2) / 2, abs=1e-4)
    assert loss(open_logit=0.0, pedal_logit=0.0) - truth == pytest.approx(0.1 * np.log(2), abs=1e-4)


def test_a_rare_articulation_weighs_as_much_as_what_it_is_mistaken_for():
    strokes = [Stroke(0.02 + 0.04 * i, "SD", "sidestick" if i == 0 else "", 0.6) for i in range(4)]
    targets = targets_of(*strokes)
    logits = torch.zeros_like(targets.articulation)
    logits[:, ARTICULATIONS.index("sidestick")] = -20.0  # none is ever found
    assert float(articulation_loss(logits, targets)) == pytest.approx(20 / 2, rel=1e-3)


def test_articulations_are_learned_alone_and_all_else_stays(tiny_pack, small_training, tmp_path):
    old = small_training(steps=1)
    folder = tmp_path / "preset"
    export_transcriber(train_transcriber(tiny_pack, tmp_path / "old", old), folder)
    before = load_transcriber(folder / "transcriber.safetensors")
    model = replace(old.model, articulations=ARTICULATIONS)
    settings = small_training(steps=3, articulations_alone=True, model=model)
    checkpoint = train_transcriber(tiny_pack, tmp_path / "new", settings, begin=load_preset(folder))
    state = torch.load(checkpoint)
    for name, value in before.state_dict().items():
        assert torch.equal(state["average"][name], value), name
        assert torch.equal(state["net"][name], value), name
    assert set(state["net"]) - set(before.state_dict()) == {
        f"articulation.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }
    assert json.loads(state["config"])["thresholds"] == list(before.config.thresholds)
    assert json.loads(state["config"])["articulations"] == list(ARTICULATIONS)
    with pytest.raises(SettingsError, match="articulations alone need a trained transcriber"):
        train_transcriber(tiny_pack, tmp_path / "none", settings)


def test_the_network_learns_a_batch(tiny_pack, small_training, tmp_path):
    model = TranscriberConfig(widths=(8, 8, 16, 16), d_model=48, dilations=(1, 2, 4))
    settings = small_training(steps=40, warm_up=5, learning_rate=5e-3, model=model)
    run = module._Run(tiny_pack, tmp_path, settings, torch.device("cpu"))
    batch = run.batch_of(0)
    losses = [run.train_step(batch) for _ in range(40)]
    assert np.mean(losses[-3:]) < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.usefixtures("with_curves")
def test_a_resumed_run_is_the_same_run(tiny_pack, small_training, tmp_path, stop_after):
    settings = small_training(validate_every=5)
    train_transcriber(tiny_pack, tmp_path / "whole", settings)
    train_transcriber(tiny_pack, tmp_path / "parts", settings, **stop_after(6))
    assert torch.load(tmp_path / "parts" / "transcriber.pt")["step"] == 6
    train_transcriber(tiny_pack, tmp_path / "parts", settings, resume=True)

    whole, parts = (torch.load(tmp_path / name / "transcriber.pt") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in ("settings", "config", "step"):
        assert whole[name] == parts[name]
    for name in ("net", "average"):
        assert all(torch.equal(value, parts[name][key]) for key, value in whole[name].items())
    assert torch.equal(whole["torch_random"], parts["torch_random"])
    for i, state in whole["optimiser"]["state"].items():
        assert all(torch.equal(value, parts["optimiser"]["state"][i][key]) for key, value in state.items())
    logged, again = (
        [(e["step"], e["loss"], e["scores"]) for e in read_log(tmp_path / name / "transcriber.jsonl")]
        for name in ("whole", "parts")
    )
    assert logged == again
    assert [step for step, _, _ in logged] == [5, 10]
    samples = tmp_path / "whole" / "samples"
    assert sorted(path.name for path in samples.iterdir()) == ["0000005.png", "0000010.png"]
    assert (tmp_path / "whole" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_tuned_thresholds_outlive_a_stop(tiny_pack, small_training, tmp_path, stop_after):
    settings = small_training(validate_every=2, steps=20)
    out = tmp_path / "run"
    train_transcriber(tiny_pack, out, settings, **stop_after(2))
    tuned = json.loads(torch.load(out / "transcriber.pt")["config"])["thresholds"]
    assert tuned != [0.5] * 5
    train_transcriber(tiny_pack, out, settings, resume=True, **stop_after(1))
    assert json.loads(torch.load(out / "transcriber.pt")["config"])["thresholds"] == tuned


def test_export_comes_back_as_a_transcriber(tiny_pack, small_training, tmp_path):
    checkpoint = train_transcriber(tiny_pack, tmp_path / "run", small_training(steps=2))
    export_transcriber(checkpoint, tmp_path / "preset")
    path = export_transcriber(checkpoint, tmp_path / "preset")  # a later export replaces an earlier one
    assert load_preset(tmp_path / "preset").weights("transcriber") == path
    net = load_transcriber(path)
    state = torch.load(checkpoint)
    assert net.config == small_training().model
    for name, value in net.state_dict().items():
        assert torch.allclose(value, state["average"][name].to(value.dtype), rtol=1e-3, atol=1e-6)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["step"] == "2"
        assert file.get_tensor("head.weight").dtype == torch.float16


def test_a_checkpoint_is_not_overwritten(tiny_pack, small_training, tmp_path):
    train_transcriber(tiny_pack, tmp_path, small_training(steps=1))
    before = (tmp_path / "transcriber.pt").read_bytes()
    with pytest.raises(CheckpointError, match="exists") as caught:
        train_transcriber(tiny_pack, tmp_path, small_training(steps=1))
    assert "--resume" in caught.value.hint
    assert (tmp_path / "transcriber.pt").read_bytes() == before


def test_a_finished_run_may_be_resumed_and_stays(tiny_pack, small_training, tmp_path):
    train_transcriber(tiny_pack, tmp_path, small_training(steps=2))
    train_transcriber(tiny_pack, tmp_path, small_training(steps=2), resume=True)
    assert torch.load(tmp_path / "transcriber.pt")["step"] == 2


def test_too_little_time_for_a_step_leaves_no_checkpoint(tiny_pack, small_training, tmp_path):
    with pytest.raises(SettingsError, match="too short for a single training step"):
        train_transcriber(tiny_pack, tmp_path, small_training(), max_minutes=1e-6)
    assert not (tmp_path / "transcriber.pt").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "does not exist"),
        (b"", "is no readable checkpoint"),
        (b"not a checkpoint", "is no readable checkpoint"),
    ],
)
def test_nothing_to_resume_is_a_sentence(tiny_pack, small_training, tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "transcriber.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint):
        train_transcriber(tiny_pack, tmp_path, small_training(), resume=True)
    with pytest.raises(CheckpointError, match=complaint):
        export_transcriber(tmp_path / "transcriber.pt", tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_a_strange_checkpoint_is_a_sentence(tiny_pack, small_training, tmp_path, caplog):
    path = tmp_path / "transcriber.pt"
    train_transcriber(tiny_pack, tmp_path, small_training(steps=1))
    narrow = small_training(
        steps=2, model=TranscriberConfig(widths=(4, 4, 8, 8), d_model=8, dilations=(1, 2, 4))
    )
    with pytest.raises(CheckpointError, match="network of another shape"):
        train_transcriber(tiny_pack, tmp_path, narrow, resume=True)
    train_transcriber(tiny_pack, tmp_path, small_training(steps=2), resume=True)
    assert "resumed with another steps: 2, not 1" in caplog.text
    torch.save({"step": 3}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of a transcriber"):
        train_transcriber(tiny_pack, tmp_path, small_training(steps=2), resume=True)


def test_a_pack_must_hold_both_sides(tiny_pack, small_training, tmp_path):
    for side, complaint in (("train", "no validate kits"), ("validate", "no rhythms to train on")):
        half = Pack(
            tuple(kit for kit in tiny_pack.kits if kit.split == side), tuple(tiny_pack.grooves_of(side)), ()
        )
        with pytest.raises(PackError, match=complaint):
            train_transcriber(half, tmp_path, small_training())
    assert not (tmp_path / "transcriber.pt").exists()


def test_validation_lends_what_a_kit_lacks(tiny_pack, kit):
    held_out = (
        kit("bare", "validate", voices=[("KD", ""), ("SD", ""), ("HH", "closed")]),
        kit("full", "validate", kind="electronic"),
    )
    pack = Pack(held_out, tiny_pack.grooves, ())
    items = make_recordings(pack, "validate", n=4, seed=0, length_s=4.0)
    assert [item.kit_kind for item in items] == ["acoustic", "electronic"] * 2
    again = make_recordings(pack, "validate", n=4, seed=0, length_s=4.0)
    for item, same in zip(items, again, strict=True):
        assert torch.equal(item.audio, same.audio)
        assert item.events == same.events
        assert {e.drum_class for e in item.events + item.hardly_audible} == {"KD", "SD", "TT", "HH", "CY"}
    with pytest.raises(PackError, match="no validate kit of the pack holds a tom"):
        make_recordings(Pack(held_out[:1], tiny_pack.grooves, ()), "validate", n=1, seed=0)


BARE = """
import sys
BLOCKED = {"soxr", "mido", "platformdirs", "reapy", "mir_eval", "matplotlib", "torchaudio", "daw_bridge"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Block())
from pathlib import Path
import training.__main__
from training.data.pack import load_pack
from training.data.synthesis import SynthesisSettings
from training.train.transcriber import TranscriberTraining, export_transcriber, train_transcriber
from transform.presets import load_preset
from transform.transcriber import TranscriberConfig
settings = TranscriberTraining(
    steps=2, batch=1, n_validation=1, pool_size=1, validate_every=2,
    synthesis=SynthesisSettings(n_samples=22_050),
    model=TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1,)),
)
out = Path(sys.argv[2])
checkpoint = train_transcriber(load_pack(Path(sys.argv[1])), out, settings)
export_transcriber(checkpoint, out)
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.mark.slow
def test_training_runs_on_a_bare_machine(data_folder, tmp_path, root):
    write_pack(data_folder, tmp_path / "pack")
    result = subprocess.run(
        [sys.executable, "-c", BARE, tmp_path / "pack", tmp_path / "run"],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "CARD.md",
        "preset.toml",
        "samples",
        "transcriber.jsonl",
        "transcriber.pt",
        "transcriber.safetensors",
    ]
