"""Thresholds: annotated recordings choose where they hold enough strokes, shrunk towards synthetic ones."""

import numpy as np
import pytest

from training.score.recordings import Annotation
from training.score.thresholds import combined, highest_good, left_out_f, score_tracks
from training.train.transcriber import change_thresholds, export_transcriber, train_transcriber
from transform.events import CLASSES
from transform.presets import load_preset
from transform.transcriber import Activations, Transcriber, TranscriberConfig, TranscriberNet, load_transcriber

# On synthetic recordings .2 is best, and F falls by .1 for .1.
CURVE = {round(0.1 + 0.05 * i, 2): 0.8 - abs(0.1 + 0.05 * i - 0.2) for i in range(17)}
CURVES = (CURVE,) * 5


@pytest.fixture(scope="module")
def transcriber():
    config = TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1, 2), thresholds=(0.3,) * 5)
    return Transcriber(TranscriberNet(config))


def track(drum_class, *, n_true, true=0.6, n_false=0, false=0.3):
    """Return a track in which strokes reach one height, and what is no stroke another."""
    heights = [true] * n_true + [false] * n_false
    n_frames = 10 * len(heights) + 10
    probability = np.zeros((5, n_frames))
    probability[CLASSES.index(drum_class), 10 * np.arange(len(heights)) + 5] = heights
    truth = [Annotation((10 * i + 5) / 100, drum_class) for i in range(n_true)]
    return truth, Activations(
        probability, np.full((5, n_frames), 0.7), np.zeros((5, n_frames)), np.zeros((1, n_frames))
    )


def test_enough_strokes_in_enough_tracks_choose_a_threshold(transcriber):
    tracks = [track("SD", n_true=20, n_false=20) for _ in range(3)]
    chosen = combined(transcriber, CURVES, tracks)
    # From .35 on no false stroke is found: that gains a third, and costs .15 on synthetic recordings.
    assert chosen.values == (0.2, 0.35, 0.2, 0.2, 0.2)
    assert chosen.synthetic == (0.2,) * 5
    assert chosen.n_strokes == {"SD": 60}
    assert transcriber.config.thresholds == (0.3,) * 5


def test_of_equally_good_thresholds_the_highest_is_taken():
    assert highest_good({0.2: 0.8, 0.3: 0.85, 0.4: 0.842, 0.5: 0.839}) == 0.4
    assert highest_good({0.2: 0.9, 0.3: 0.5}) == 0.2


def test_few_strokes_or_few_tracks_choose_nothing(transcriber):
    few = [track("KD", n_true=16, n_false=20) for _ in range(3)]
    in_two = [track("HH", n_true=40, n_false=20) for _ in range(2)]
    chosen = combined(transcriber, CURVES, [*few, *in_two])
    assert (chosen.values, chosen.n_strokes) == ((0.2,) * 5, {})
    assert "annotated" not in chosen.sentence()


def test_tracks_are_scored_with_the_thresholds_that_are_given(transcriber):
    tracks = [track("SD", n_true=4, n_false=4)]
    (low,), (high,) = (score_tracks(transcriber, (t,) * 5, tracks) for t in (0.2, 0.4))
    assert (low.counts["SD"].precision, low.counts["SD"].recall) == (0.5, 1.0)
    assert (high.counts["SD"].precision, high.counts["SD"].recall) == (1.0, 1.0)


def test_a_left_out_track_is_scored_with_what_the_others_choose(transcriber):
    alike = [track("SD", n_true=20, n_false=20, true=0.6) for _ in range(3)]
    odd = track("SD", n_true=20, true=0.25)  # which the others' threshold misses
    tracks = [*alike, odd]
    chosen = combined(transcriber, CURVES, tracks)
    # Each of the three is scored with a threshold that keeps the odd one's strokes, at the price of false ones.
    found = left_out_f(transcriber, chosen, tracks)
    own = [combined(transcriber, CURVES, tracks[:i] + tracks[i + 1 :]).values for i in range(4)]
    counts = [score_tracks(transcriber, own[i], [tracks[i]])[0].counts["SD"] for i in range(4)]
    matched, total = sum(c.matched for c in counts), sum(c.expected + c.detected for c in counts)
    assert found == pytest.approx(2 * matched / total)
    assert counts[3].matched == (20 if own[3][1] <= 0.25 else 0)


def test_thresholds_are_written_and_the_weights_stay(tiny_pack, small_training, tmp_path):
    folder = tmp_path / "preset"
    export_transcriber(train_transcriber(tiny_pack, tmp_path / "run", small_training(steps=1)), folder)
    before = load_transcriber(folder / "transcriber.safetensors")
    change_thresholds(load_preset(folder), (0.1, 0.2, 0.3, 0.4, 0.5), "Chosen for a test.")
    after = load_transcriber(load_preset(folder).weights("transcriber"))
    assert after.config.thresholds == (0.1, 0.2, 0.3, 0.4, 0.5)
    for name, value in before.state_dict().items():
        assert value.equal(after.state_dict()[name]), name
    assert "Chosen for a test." in (folder / "CARD.md").read_text(encoding="utf-8")
