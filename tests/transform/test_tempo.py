"""Tempi are estimated, and rhythms play at those that are known, given or requested."""

import math

import numpy as np
import pytest

from tests.transform.test_events import at_beats, onsets
from transform.errors import SettingsError
from transform.events import DrumEvent, Rhythm, TempoMap
from transform.tempo import align, estimate_tempo


def test_align_chooses_and_says_how(subtests):
    own = "the rhythm's own"
    cases = [
        ("auto", 60, 120, None, None, 1.0, f"plays at 60 BPM, the source's; {own} is 120"),
        ("beats", 60, 120, None, None, 1.0, "plays at 60 BPM, the source's; the rhythm's own is 120"),
        ("seconds", 60, 120, None, None, 0.5, f"plays at 120 BPM, {own}, as requested"),
        ("seconds", 60, None, None, None, 0.5, "plays as fast as the rhythm itself, as requested"),
        (
            "auto",
            None,
            120,
            None,
            None,
            0.5,
            f"120 BPM, {own}; to match your file add --source-bpm N,",
        ),
        ("auto", 60, None, None, None, 0.5, "not known; to match your file add --rhythm-bpm N"),
        ("auto", None, None, None, None, 0.5, "to match your file add --source-bpm N and --rhythm-bpm N"),
        ("auto", 60, None, 90, None, 0.75, f"plays at 60 BPM, the source's; {own} is 90"),
        ("beats", 60, 120, 90, None, 0.75, "plays at 60 BPM"),  # --rhythm-bpm beats the file's
        ("auto", None, 120, None, 240, 0.25, "plays at 240 BPM, as requested"),
        ("beats", 60, 120, 90, 180, 0.25, "plays at 180 BPM, as requested"),
    ]
    for mode, source_bpm, own_bpm, rhythm_bpm, target_bpm, expected_s, said in cases:
        with subtests.test(
            mode=mode,
            source_bpm=source_bpm,
            own_bpm=own_bpm,
            rhythm_bpm=rhythm_bpm,
            target_bpm=target_bpm,
            expected_s=expected_s,
            said=said,
        ):
            tempo_map = None if own_bpm is None else TempoMap.constant(own_bpm)
            rhythm = Rhythm((DrumEvent(0.5, "KD", 1),), 2.0, tempo_map)
            bpms = {"source_bpm": source_bpm, "rhythm_bpm": rhythm_bpm, "target_bpm": target_bpm}
            aligned, phrase = align(rhythm, mode=mode, **bpms)
            assert onsets(aligned) == pytest.approx([expected_s])
            assert aligned.length_s == pytest.approx(4 * expected_s)
            assert said in phrase


@pytest.mark.parametrize(
    ("source_bpm", "own_bpm", "option"), [(None, 120, "--source-bpm"), (120, None, "--rhythm-bpm")]
)
def test_align_in_beats_without_a_tempo_says_which_option_gives_it(source_bpm, own_bpm, option):
    rhythm = Rhythm((), 2.0, own_bpm and TempoMap.constant(own_bpm))
    with pytest.raises(SettingsError) as caught:
        align(rhythm, mode="beats", source_bpm=source_bpm, rhythm_bpm=None)
    assert option in caught.value.hint


@pytest.mark.parametrize(
    "options", [{"mode": "bars"}, {"source_bpm": 0}, {"source_bpm": math.nan}, {"rhythm_bpm": -5}]
)
def test_align_refuses_wrong_options(options):
    with pytest.raises(SettingsError):
        align(at_beats([0]), **({"mode": "auto", "source_bpm": None, "rhythm_bpm": None} | options))


def test_estimate_tempo_of_a_click():
    for bpm in range(70, 181, 5):
        estimated, _ = estimate_tempo(at_beats(range(16), bpm, 16).events, 16 * 60 / bpm)
        assert estimated == pytest.approx(bpm, rel=1e-3)


def groove(bpm, *, swing_beats=0.0, jitter_s=0.0, seed=0):
    """Eight bars of rock: hats on eighths, kick on 1 and 3-and, snare on 2 and 4."""
    rng = np.random.default_rng(seed)
    strokes = []
    for bar in range(0, 32, 4):
        strokes += [(bar + i / 2 + swing_beats * (i % 2), "HH", 0.7 - 0.2 * (i % 2)) for i in range(8)]
        strokes += [(bar, "KD", 0.9), (bar + 2.5 + swing_beats, "KD", 0.9)]
        strokes += [(bar + 1, "SD", 0.9), (bar + 3, "SD", 0.9)]
    events = tuple(DrumEvent(max(beat * 60 / bpm + rng.normal(0, jitter_s), 0), c, v) for beat, c, v in strokes)
    return Rhythm(events, 32 * 60 / bpm + 1)


@pytest.mark.parametrize("swing_beats", [0, 1 / 6])
@pytest.mark.parametrize("jitter_s", [0, 0.01])
def test_estimate_tempo_of_a_groove_swung_or_not(swing_beats, jitter_s):
    for bpm in (75, 90, 104, 120, 133, 145):
        rhythm = groove(bpm, swing_beats=swing_beats, jitter_s=jitter_s)
        estimated, confidence = estimate_tempo(rhythm.events, rhythm.length_s)
        assert estimated == pytest.approx(bpm, rel=3e-3)
        assert 0 <= confidence <= 1


def test_estimate_tempo_of_a_fast_groove_may_be_half_and_is_then_unsure():
    rhythm = groove(170)
    estimated, confidence = estimate_tempo(rhythm.events, rhythm.length_s)
    assert min(abs(estimated / bpm - 1) for bpm in (85, 170)) < 3e-3
    assert confidence < 0.3


@pytest.mark.parametrize(("bpm", "is_round"), [(117, True), (92.5, True), (133.3, True), (117.23, False)])
def test_an_estimate_is_a_round_number_where_that_explains_the_onsets(bpm, is_round):
    rhythm = groove(bpm, jitter_s=0.003)
    estimated, _ = estimate_tempo(rhythm.events, rhythm.length_s)
    assert (estimated == bpm) == is_round
    # Played at it, the rhythm's last bar is where the performance has it.
    assert abs(estimated / bpm - 1) * rhythm.length_s < 0.02


def test_estimate_tempo_says_nothing_without_evidence():
    assert estimate_tempo([], 1.0) is None
    assert estimate_tempo(at_beats([0, 1, 2]).events, 2.0) is None
    far_apart = [DrumEvent(10.0 * i, "KD", 1) for i in range(6)]
    assert estimate_tempo(far_apart, 60.0) is None
    at_once = [DrumEvent(1.0, c, 1) for c in ("KD", "SD", "HH", "CY")]
    assert estimate_tempo(at_once, 60.0) is None


def test_estimate_tempo_does_not_depend_on_the_order_of_events():
    rhythm = groove(104, jitter_s=0.01)
    assert estimate_tempo(rhythm.events[::-1], 20.0) == estimate_tempo(rhythm.events, 20.0)
