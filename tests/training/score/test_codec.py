from dataclasses import replace

import numpy as np
import pytest
import torch

from training.score.codec import (
    Original,
    attack_correlation,
    attacks_s,
    codec_scores,
    codec_table,
    compare,
    kit_originals,
    loop_originals,
    transcription_scores,
)
from training.train.losses import SpectralLoss
from transform.codec import Encoded
from transform.events import DrumEvent


class Perfect:
    """Stands in for a codec and keeps everything; `gain` is what it does to the sound."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def encode(self, audio):
        return Encoded(audio[:, None], audio[:, None], audio[:, None])

    def decode(self, latents, n_samples):
        return self.gain * latents[:, 0, :n_samples]


@pytest.fixture
def beat(clicks):
    onsets_s = (0.25, 0.5, 0.75)
    return Original(clicks(list(onsets_s))[0], onsets_s, "made", "loop")


def test_a_perfect_codec_has_perfect_scores(beat):
    scores = codec_scores(Perfect(), [beat])[0]
    for name in ("periodicity", "pulses_db", "speckle_db", "hiss_db"):
        assert scores.pop(name) == scores.pop(f"original_{name}")
    assert scores == {
        "mel_db": 0,
        "averaged_db": 0,
        "high_bias_db": 0,
        "scales_db": 0,
        "stft": 0,
        "si_sdr_db": 100,
        "attack": pytest.approx(1),
        "pre_echo_db": 0,
        "high_db": 0,
    }


def test_scores_know_what_became_worse(beat):
    spectra = SpectralLoss()
    half = compare(0.5 * beat.audio, beat, spectra)
    assert half["mel_db"] == pytest.approx(0, abs=1e-6)  # loudness is matched
    assert 0.1 < half["scales_db"] < 6.1  # most of it is silence
    assert half["si_sdr_db"] == 100
    echo = beat.audio.copy()
    for onset_s in beat.onsets_s:
        at = round(onset_s * 44_100)
        echo[at - 500 : at] += 0.01
    assert compare(echo, beat, spectra)["pre_echo_db"] > 10
    dull = np.convolve(beat.audio, np.ones(8) / 8, mode="same").astype(np.float32)
    assert compare(dull, beat, spectra)["high_db"] > 3
    assert compare(np.zeros_like(beat.audio), beat, spectra)["si_sdr_db"] == -30


def test_attacks_are_compared_by_their_shape(beat):
    assert attack_correlation(0.3 * beat.audio, beat.audio, beat.onsets_s) == pytest.approx(1)
    late = np.roll(beat.audio, 441)
    assert attack_correlation(late, beat.audio, beat.onsets_s) < 0.2
    assert attack_correlation(np.zeros_like(beat.audio), beat.audio, beat.onsets_s) == 0
    assert attack_correlation(beat.audio, beat.audio, [5.0]) is None
    assert attack_correlation(beat.audio, np.zeros_like(beat.audio), beat.onsets_s) is None


def test_attacks_are_found_where_the_sound_begins(beat):
    assert attacks_s(beat.audio) == pytest.approx(beat.onsets_s, abs=0.002)
    assert attacks_s(np.zeros(44_100, dtype=np.float32)) == ()


def test_silence_has_only_what_can_be_measured():
    silent = Original(np.zeros(44_100, dtype=np.float32), (), "silent", "loop")
    scores = codec_scores(Perfect(), [silent])[0]
    assert scores["si_sdr_db"] is scores["attack"] is scores["pre_echo_db"] is None
    assert scores["mel_db"] == 0


def test_originals_are_of_one_side(tiny_pack, bench_pack):
    originals = kit_originals(tiny_pack, "validate", n=4, seed=0, length_s=2.0)
    assert {original.name for original in originals} <= {"made-c", "made-d"}
    assert all(len(original.audio) == 88_200 and original.onsets_s for original in originals)
    loops = loop_originals(bench_pack, "test", n=3, length_s=1.0)
    assert [(o.name, o.kind, len(o.audio)) for o in loops] == [("real", "loop", 44_100)] * len(loops)
    assert loops[0].onsets_s
    assert loop_originals(tiny_pack, "test", n=3) == []


class Hearing:
    """Stands in for a transcriber and hears a kick wherever the sound rises."""

    def infer(self, audio):
        return audio.numpy()

    def events(self, audio):
        return [DrumEvent(onset_s, "KD", 1.0) for onset_s in attacks_s(audio)]


def test_what_a_transcriber_hears_tells_what_was_lost(beat):
    played = replace(beat, events=tuple(DrumEvent(t, "KD", 1.0) for t in beat.onsets_s))
    assert transcription_scores(0.5 * beat.audio, played, Hearing()) == {
        "onset_f_20": 1,
        "class_f_50": 1,
        "class_f_50_before": 1,
    }
    without_the_last = beat.audio.copy()
    without_the_last[round(0.7 * 44_100) :] = 0
    scores = transcription_scores(without_the_last, played, Hearing())
    assert scores["onset_f_20"] == scores["class_f_50"] == pytest.approx(0.8)
    assert transcription_scores(np.roll(beat.audio, 1500), played, Hearing())["onset_f_20"] == 0
    unknown = transcription_scores(beat.audio, beat, Hearing())
    assert unknown["class_f_50"] is None


def test_a_table_has_a_row_for_each_side(bench_pack):
    table = codec_table(Perfect(0.5), bench_pack, Hearing(), n=2, seed=0)
    assert set(table) == {"test kits", "held-out loops"}  # the pack has no rhythms to play known kits with
    assert table["test kits"]["mel_db"].startswith(("0.00 (", "-0.00 ("))
    assert set(table["test kits"]) == {
        "mel_db",
        "averaged_db",
        "high_bias_db",
        "periodicity",
        "original_periodicity",
        "pulses_db",
        "original_pulses_db",
        "speckle_db",
        "original_speckle_db",
        "hiss_db",
        "original_hiss_db",
        "scales_db",
        "stft",
        "si_sdr_db",
        "attack",
        "pre_echo_db",
        "high_db",
        "onset_f_20",
        "class_f_50",
        "class_f_50_before",
    }
    assert table["test kits"]["onset_f_20"].startswith("1.00 (")
    assert table["held-out loops"]["class_f_50"] == "-"


def test_stand_ins_do_what_they_say():
    audio = torch.rand(1, 10)
    assert torch.equal(Perfect().decode(Perfect().encode(audio).mu, 10), audio)
