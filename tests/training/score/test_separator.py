from dataclasses import replace

import numpy as np
import pytest

from training.data.pack import PackError
from training.score.nmf import ArrayStems
from training.score.scores import mean_scores
from training.score.separator import (
    ideally_masked,
    make_mixtures,
    opened,
    score_mixtures,
    score_stems,
    separation_scores,
    separation_tables,
    systems_of,
)
from transform.events import CLASSES
from transform.transcriber import Activations


class Deaf:
    """Stands in for a transcriber and hears nothing."""

    def infer(self, audio):
        nothing = np.zeros((5, len(audio) // 441 + 1), dtype=np.float32)
        return Activations(nothing, nothing, nothing, nothing[:1])


@pytest.fixture(scope="module")
def mixtures(tiny_pack):
    return make_mixtures(tiny_pack, "validate", Deaf(), n=3, seed=0, length_s=2.0)


class Knowing:
    """Stands in for a separator that makes no mistakes."""

    def __init__(self, mixtures):
        self._stems = {id(mixture.recording): mixture.stems for mixture in mixtures}

    def open(self, recording, activations):
        return ArrayStems(self._stems[id(recording)][:, None])


def test_mixtures_are_their_stems_and_noise(mixtures, tiny_pack):
    assert [mixture.kit for mixture in mixtures] == ["made-c", "made-d", "made-c"]
    for mixture in mixtures:
        audio = mixture.recording.read(0, 88_200)[0]
        assert mixture.stems.shape == (5, 88_200)
        noise = audio - mixture.stems.sum(axis=0)
        assert np.square(noise).sum() < 0.1 * np.square(audio).sum()
        assert sum(stem.any() for stem in mixture.stems) >= 2
        assert mixture.activations.probability.shape == (5, 201)
    again = make_mixtures(tiny_pack, "validate", Deaf(), n=1, seed=0, length_s=2.0)[0]
    assert np.array_equal(again.stems, mixtures[0].stems)


def test_a_side_without_kits_is_a_sentence(tiny_pack):
    with pytest.raises(PackError, match="no test kits"):
        make_mixtures(tiny_pack, "test", Deaf(), n=1, seed=0)


def test_rhythms_of_one_drum_are_a_sentence(tiny_pack, groove):
    alone = groove("hats", "validate")
    alone = replace(alone, class_index=np.full_like(alone.class_index, CLASSES.index("HH")))
    with pytest.raises(PackError, match="hardly any validate rhythm plays two drums"):
        make_mixtures(replace(tiny_pack, grooves=(alone,)), "validate", Deaf(), n=1, seed=0, length_s=0.5)


def test_stems_are_scored_where_they_sound():
    time_s = np.arange(4410) / 44_100
    stems = np.zeros((5, 4410), dtype=np.float32)
    stems[0], stems[1] = np.sin(2 * np.pi * 100 * time_s), 0.1 * np.sin(2 * np.pi * 1000 * time_s)
    stems[2] = 1e-3 * np.sin(2 * np.pi * 500 * time_s)  # 60 dB below: as good as silent
    audio = stems.sum(axis=0)
    scores = score_stems(stems, stems, audio)
    assert {name: scores[name] for name in CLASSES} == {
        "KD": 100,
        "SD": 100,
        "TT": None,
        "HH": None,
        "CY": None,
    }
    assert scores["mean"] == 100
    assert scores["silent"] == pytest.approx((-60 - 100 - 100) / 3, abs=0.1)
    mixture = score_stems(np.repeat(audio[None], 5, axis=0), stems, audio)
    assert mixture["KD"] == pytest.approx(20, abs=0.01)
    assert mixture["SD"] == pytest.approx(-20, abs=0.01)
    assert mixture["mean"] == pytest.approx(0, abs=0.01)
    assert mixture["silent"] == pytest.approx(0)


def test_silence_has_no_scores():
    nothing = np.zeros((5, 100), dtype=np.float32)
    assert set(score_stems(nothing, nothing, nothing[:1]).values()) == {None}


def test_who_knows_the_stems_is_perfect(mixtures):
    scores = separation_scores(Knowing(mixtures), mixtures)
    assert scores["mean"] == 100
    assert scores["KD"] == 100


def test_the_bound_is_above_the_mixture_and_below_the_truth(mixtures, tiny_pack):
    systems = systems_of(tiny_pack, None)
    assert list(systems) == ["mixture", "NMF, fixed templates", "NMF, informed", "ideal ratio mask"]
    means = {
        name: mean_scores(score_mixtures(separate, mixtures))["mean"] for name, separate in systems.items()
    }
    assert means["mixture"].value < 0 < means["ideal ratio mask"].value < 100
    assert means["mixture"].value < means["NMF, fixed templates"].value < means["ideal ratio mask"].value
    for score in means.values():
        assert score.low <= score.value <= score.high


def test_ideal_masks_add_up(mixtures):
    mixture = mixtures[0]
    found = ideally_masked(mixture)
    assert np.abs(found.sum(axis=0) - mixture.recording.read(0, 88_200)[0]).max() < 1e-5


def test_tables_have_a_row_a_system_and_skip_sides_that_are_missing(tiny_pack, mixtures, monkeypatch):
    from training.score import separator as score_separator

    monkeypatch.setattr(score_separator, "make_mixtures", lambda *_, **__: mixtures)
    tables = separation_tables(Deaf(), Knowing(mixtures), tiny_pack, n=3, seed=0)
    assert list(tables) == ["known kits", "validation kits"]
    table = tables["validation kits"]
    assert list(table) == ["mixture", "NMF, fixed templates", "NMF, informed", "separator", "ideal ratio mask"]
    assert list(table["mixture"]) == [*CLASSES, "mean", "silent", "of the bound"]
    assert table["separator"]["mean"] == "100.0 (100.0 to 100.0)"
    assert table["mixture"]["of the bound"] == "0%"
    assert table["ideal ratio mask"]["of the bound"] == "100%"


def test_the_test_side_is_shown_by_kind(tiny_pack, mixtures, monkeypatch):
    from training.score import separator as score_separator

    kits = tuple(replace(kit, split="test") if kit.split == "validate" else kit for kit in tiny_pack.kits)
    monkeypatch.setattr(score_separator, "make_mixtures", lambda *_, **__: mixtures)
    tables = separation_tables(Deaf(), None, replace(tiny_pack, kits=kits), n=3, seed=0)
    assert list(tables) == ["known kits", "test kits", "test kits, acoustic", "test kits, electronic"]


def test_a_separator_is_given_what_was_heard(mixtures):
    asked = []

    class Listening:
        def open(self, recording, activations):
            asked.append((recording, activations))
            return ArrayStems(np.zeros((5, 1, 88_200), dtype=np.float32))

    assert opened(Listening())(mixtures[1]).shape == (5, 88_200)
    assert asked == [(mixtures[1].recording, mixtures[1].activations)]
