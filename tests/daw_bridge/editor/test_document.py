import math
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daw_bridge.editor.document import Document, Draft, Grid, History, Mismatch
from daw_bridge.editor.edits import command_of
from daw_bridge.editor.mix import Lane
from daw_bridge.editor.placing import Placing, change_mode, replace_rhythm
from daw_bridge.editor.redetection import redetect
from tests.daw_bridge.editor.conftest import FOUND, LENGTH_S
from transform.errors import RhythmError
from transform.events import ARTICULATIONS, CLASSES, DrumEvent, Rhythm, TempoMap
from transform.strokes import Stroke
from transform.velocity import LEVEL_EXPONENT

RHYTHM = Rhythm(
    (DrumEvent(0.0, "KD", 1.0), DrumEvent(0.75, "SD", 0.5, flam_ms=20.0)), 1.5, TempoMap.constant(160), "short"
)


def done(document, *edits):
    return document.applied(command_of(document, edits))


def played(document, stroke_id):
    return document.played.get(stroke_id)


def random_edit(chance, document):
    """Return an edit as pages send them, of a stroke that is there or is not."""

    def stroke_id(layer):
        return chance.choice([*document.layer(layer), "d0"])

    drum_class = chance.choice(CLASSES)
    new = {
        "id": f"n{chance.randrange(40)}",
        "class": drum_class,
        "onset_s": chance.uniform(0, document.source_s),
        "velocity": chance.uniform(0.01, 1),
        "articulation": chance.choice(ARTICULATIONS[drum_class]),
    }
    whole = {"step_beats": chance.choice([0.25, 1 / 3, 0.5]), "strength": chance.random()}
    bars = {"bar": chance.randrange(-1, 3), "n_bars": 1}
    return chance.choice(
        [
            {"op": "add", **new},
            {"op": "add", **new, "like": stroke_id("played")},
            {"op": "detect", **new},
            {"op": "move", "id": stroke_id("played"), "onset_s": chance.uniform(0, document.length_s)},
            {"op": "set", "id": stroke_id("played"), "velocity": chance.uniform(0.01, 1)},
            {"op": "set", "id": stroke_id("played"), "class": drum_class},
            {"op": "delete", "id": stroke_id("played")},
            {"op": "relabel", "id": stroke_id("detected"), "class": drum_class},
            {"op": "shift", "id": stroke_id("detected"), "onset_s": chance.uniform(0, document.source_s)},
            {"op": "dismiss", "id": stroke_id("detected")},
            {"op": "quantise", **whole},
            {"op": "swing", "step_beats": 0.5, "amount": chance.random()},
            {"op": "humanise", "seed": chance.randrange(99), "timing_s": 0.01, "velocity": 0.1},
            {"op": "clear", **bars, "classes": [drum_class]},
            {"op": "fill", **bars, "every": 2, "prefix": f"p{chance.randrange(99)}"},
            {"op": "repeat", **bars, "times": 2, "prefix": f"p{chance.randrange(99)}"},
        ]
    )


def random_command(chance, document):
    """Return any command: edits, a rhythm, a mode, a grid, another sensitivity; None where it is refused."""
    kind = chance.randrange(12)
    draft = Draft(document)
    try:
        if kind == 0:
            replace_rhythm(draft, RHYTHM, Placing(tempo=chance.choice(["grid", "own"]), length="source"))
        elif kind == 1:
            change_mode(draft, chance.choice(["edit", "replay"]))
        elif kind == 2:
            beat = chance.randrange(1, 9)
            draft.fields["grid"] = draft.grid.with_line_at(
                beat, draft.grid.time_of(beat) + chance.uniform(-1, 1)
            )
        elif kind == 3:
            redetect(draft, chance.sample(FOUND, 3), {"SD": chance.uniform(-1, 1)})
        else:
            return command_of(document, [random_edit(chance, document) for _ in range(chance.randrange(1, 4))])
        return draft.command()
    except RhythmError:
        return None


@given(st.integers(0, 2**32))
def test_200_commands_undone_give_the_first_document_and_redone_the_last(seed):
    chance = random.Random(seed)
    first = Document.of_detection(FOUND, LENGTH_S, Grid())
    history, n_done = History(first), 0
    documents = [first]
    for _ in range(200):
        command = random_command(chance, history.document)
        if command:
            assert history.document.strokes  # in order, from which those after the command are made
            history.do(command)
            assert history.document.strokes == replace(history.document).strokes
            documents.append(history.document)
            n_done += 1
    assert n_done > 50
    for document in reversed(documents[:-1]):
        history.undo()
        assert history.document == document
    assert not history.can_undo
    for document in documents[1:]:
        history.redo()
        assert history.document == document
    assert history.version == 3 * n_done


def test_a_command_of_another_document_is_refused(document):
    command = command_of(document, [{"op": "move", "id": "d2", "onset_s": 1.2}])
    with pytest.raises(Mismatch):
        document.applied(command).applied(command)


def test_what_plays_moves_and_what_is_detected_stays(document):
    moved = done(document, {"op": "move", "id": "d2", "onset_s": 1.2, "class": "TT"})
    assert played(moved, "d2") == Stroke("d2", "TT", 1.2, 0.9)
    assert moved.detected == document.detected
    assert done(moved, {"op": "move", "id": "d2", "onset_s": 1.0, "class": "SD"}) == document


def test_another_class_has_no_articulation_of_the_old(document):
    assert played(done(document, {"op": "set", "id": "d1", "class": "CY"}), "d1").articulation == ""
    assert played(done(document, {"op": "set", "id": "d1", "velocity": 0.3}), "d1").articulation == "closed"


def test_a_repeated_add_is_harmless(document):
    add = {"op": "add", "id": "mine", "class": "TT", "onset_s": 1.5, "velocity": 0.5, "articulation": "floor"}
    once = done(document, add)
    later = done(once, {"op": "move", "id": "mine", "onset_s": 1.75})
    assert not command_of(once, [add])
    assert not command_of(later, [add])


def test_a_copy_is_like_the_detected_stroke_that_was_copied_first_and_is_corrected_with_it(document):
    copy = {"op": "add", "id": "copy", "class": "KD", "onset_s": 1.5, "like": "d0"}
    after = done(
        document,
        {"op": "delete", "id": "d0"},
        copy,
        {**copy, "id": "again", "onset_s": 1.7, "like": "copy"},
        {"op": "add", "id": "drawn", "class": "KD", "onset_s": 1.6},
        {**copy, "id": "traced", "onset_s": 1.8, "like": "drawn"},
        {"op": "repeat", "bar": 0, "times": 1, "prefix": "r"},
    )
    like = {i: s.like for i, s in after.played.items() if s.drum_class == "KD"}
    assert like == {"copy": "d0", "again": "d0", "drawn": "", "traced": ""} | {
        "r.2": "d0",
        "r.3": "",
        "r.4": "d0",
        "r.5": "",
    }
    tom = done(after, {"op": "relabel", "id": "d0", "class": "TT"})
    assert {i for i, s in tom.played.items() if s.drum_class == "TT"} == {"copy", "again", "r.2", "r.4"}
    draft = Draft(tom)
    redetect(draft, [s for s in FOUND if s.id != "d0"], {"KD": -1.0})
    assert "d0" in draft.layers["detected"]  # whose sound the copies have
    with pytest.raises(RhythmError, match="never been there"):
        done(document, {**copy, "like": "d9"})


def test_adding_a_deleted_stroke_as_it_was_is_no_edit_at_all(document):
    deleted = done(document, {"op": "delete", "id": "d2"})
    assert "d2" in deleted.detected
    added = {"op": "add", "id": "d2", "class": "SD", "onset_s": 1.0, "velocity": 0.9}
    assert done(deleted, added) == document


def test_a_correction_never_changes_what_plays_apart_from_what_it_corrects(document):
    # A stroke that nobody edited is the same in both layers, before and after.
    for edit in (
        {"op": "relabel", "id": "d2", "class": "TT", "articulation": "low"},
        {"op": "shift", "id": "d2", "onset_s": 1.01},
        {"op": "dismiss", "id": "d2"},
        {"op": "detect", "id": "mine", "class": "CY", "onset_s": 1.01},
    ):
        corrected = done(document, edit)
        assert corrected.detected != document.detected
        assert corrected.played == corrected.detected


def test_a_correction_leaves_what_the_user_made_of_a_stroke(document):
    edited = done(
        document, {"op": "move", "id": "d2", "onset_s": 2.5}, {"op": "set", "id": "d2", "velocity": 0.1}
    )
    corrected = done(
        edited, {"op": "relabel", "id": "d2", "class": "TT"}, {"op": "shift", "id": "d2", "onset_s": 0.9}
    )
    assert corrected.detected["d2"] == Stroke("d2", "TT", 0.9, 0.9)
    assert played(corrected, "d2") == Stroke("d2", "TT", 2.5, 0.1)


def test_a_dismissed_stroke_that_was_deleted_stays_silent_in_both_layers(document):
    dismissed = done(document, {"op": "delete", "id": "d2"}, {"op": "dismiss", "id": "d2"})
    assert "d2" not in dismissed.detected
    assert "d2" not in dismissed.played
    assert "d2" in dismissed.estimated


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"op": "fly"}, "op of edit 1"),
        ({"op": "add", "id": "a b", "class": "KD", "onset_s": 1}, "id of edit 1"),
        ({"op": "add", "id": "a", "class": "XX", "onset_s": 1}, "class of edit 1"),
        ({"op": "add", "id": "a", "class": "KD", "onset_s": -1}, "onset_s of edit 1"),
        ({"op": "add", "id": "a", "class": "KD", "onset_s": 4.5}, "onset_s of edit 1"),
        ({"op": "add", "id": "a", "class": "KD", "onset_s": True}, "onset_s of edit 1"),
        ({"op": "add", "id": "a", "class": "KD", "onset_s": 1, "velocity": 0}, "velocity of edit 1"),
        (
            {"op": "add", "id": "a", "class": "KD", "onset_s": 1, "articulation": "open"},
            "articulation of edit 1",
        ),
        ({"op": "add", "id": "a", "class": "KD", "onset_s": 1, "pan": 1}, "no field 'pan'"),
        ({"op": "add", "id": "a", "class": "KD"}, "lacks onset_s"),
        ({"op": "move", "id": "gone", "onset_s": 1}, "the stroke gone, which has never been there"),
        ({"op": "set", "id": "gone", "velocity": 1}, "the stroke gone, which has never been there"),
        ({"op": "delete", "id": "gone"}, "the stroke gone, which has never been there"),
        ({"op": "relabel", "id": "gone", "class": "KD"}, "the stroke gone, which has never been there"),
        ({"op": "shift", "id": "gone", "onset_s": 1}, "the stroke gone, which has never been there"),
        ({"op": "dismiss", "id": "gone"}, "the stroke gone, which has never been there"),
        ({"op": "quantise", "step_beats": 1, "ids": ["d2", "gone"]}, "the stroke gone, which has never"),
        ({"op": "swing", "step_beats": 1, "amount": 1, "ids": ["gone"]}, "the stroke gone, which has never"),
        ({"op": "humanise", "ids": ["gone"]}, "the stroke gone, which has never been there"),
        ({"op": "quantise", "step_beats": 1, "ids": ["d2", 7]}, "entry of ids of edit 1 is 7"),
        ({"op": "quantise", "step_beats": 1, "ids": [None]}, "entry of ids of edit 1 is None"),
        ({"op": "quantise", "step_beats": 0}, "step_beats"),
        ({"op": "repeat", "bar": 0, "times": 10**9, "prefix": "p"}, "times"),
        ([], "no object"),
    ],
)
def test_an_edit_that_is_none_is_refused_with_all_others(document, edit, words):
    with pytest.raises(RhythmError, match=words):
        command_of(document, [edit])
    with pytest.raises(RhythmError, match=words.replace("edit 1", "edit 2")):
        command_of(document, [{"op": "delete", "id": "d0"}, edit])


def test_what_is_done_already_is_harmless_again(document):
    history = History(document)

    def do(*edits):
        command = command_of(history.document, edits, history.known_ids)
        if command:
            history.do(command)
        return bool(command)

    add = {"op": "add", "id": "mine", "class": "TT", "onset_s": 1.5}
    delete, dismiss = {"op": "delete", "id": "mine"}, {"op": "dismiss", "id": "d2"}
    assert do(add, delete, delete) is False
    assert do(add)
    assert do(delete)
    for again in (delete, {"op": "quantise", "step_beats": 1 / 64, "ids": ["mine"]}):
        assert do(again) is False  # it is in no layer any more, but it was
    assert do(dismiss)
    assert do(dismiss, dismiss) is False
    with pytest.raises(RhythmError, match="mine, which is not played"):
        do({"op": "move", "id": "mine", "onset_s": 1})
    while history.can_undo:
        history.undo()
    assert do(delete) is False


def test_to_dismiss_what_only_plays_takes_nothing_away(document):
    added = done(document, {"op": "add", "id": "mine", "class": "TT", "onset_s": 1.5})
    assert not command_of(added, [{"op": "dismiss", "id": "mine"}])


def test_quantise_moves_by_its_strength(document):
    late = done(document, {"op": "move", "id": "d2", "onset_s": 1.04})
    assert played(done(late, {"op": "quantise", "step_beats": 0.25}), "d2").onset_s == pytest.approx(1.0)
    half = done(late, {"op": "quantise", "step_beats": 0.25, "strength": 0.5})
    assert played(half, "d2").onset_s == pytest.approx(1.02)
    only = done(late, {"op": "quantise", "step_beats": 0.25, "ids": ["d0"]})
    assert only == late


def test_quantise_counts_from_the_downbeat(document):
    shifted = Draft(document)
    shifted.fields["grid"] = Grid(downbeat_s=0.1)
    moved = done(document.applied(shifted.command()), {"op": "quantise", "step_beats": 1})
    assert [s.onset_s for s in moved.strokes.played] == pytest.approx([0.1, 0.6, 1.1, 2.1, 3.1])


def test_strokes_of_a_class_that_a_grid_brings_together_become_the_louder(document):
    flam = done(document, {"op": "add", "id": "grace", "class": "SD", "onset_s": 0.98, "velocity": 0.3})
    assert done(flam, {"op": "quantise", "step_beats": 0.25}) == document


def test_swing_delays_every_second_step_by_a_third(document):
    hats = [{"op": "add", "id": f"h{i}", "class": "CY", "onset_s": i * 0.25} for i in range(4)]
    swung = done(
        done(document, *hats), {"op": "swing", "step_beats": 0.5, "amount": 1, "ids": ["h0", "h1", "h2", "h3"]}
    )
    assert [played(swung, f"h{i}").onset_s for i in range(4)] == pytest.approx([0, 1 / 3, 0.5, 0.5 + 1 / 3])


def test_humanise_does_the_same_by_the_same_seed_and_stays_near(document):
    edit = {"op": "humanise", "seed": 3, "timing_s": 0.01, "velocity": 0.1}
    once = done(document, edit)
    assert once == done(document, edit)
    assert once != done(document, edit | {"seed": 4})
    for before, after in zip(document.strokes.played, once.strokes.played, strict=True):
        assert abs(after.onset_s - before.onset_s) <= 0.02
        assert abs(after.velocity - before.velocity) <= 0.2
    assert [s.velocity for s in done(document, {**edit, "velocity": 0}).strokes.played] == [
        s.velocity for s in document.strokes.played
    ]


def test_bars_are_cleared_and_repeated(document):
    # At 120 BPM a bar of four beats is two seconds: d0, d1 and d2 lie in bar 0, d3 and d4 in bar 1.
    cleared = done(document, {"op": "clear", "bar": 1, "classes": ["SD"]})
    assert set(cleared.played) == {"d0", "d1", "d2", "d3"}
    repeated = done(document, {"op": "repeat", "bar": 0, "times": 3, "prefix": "fill"})
    places = [(s.id, s.onset_s) for s in repeated.strokes.played if s.onset_s >= 2]
    assert places == [("fill.0", 2.0), ("fill.1", 2.5), ("fill.2", 3.0)]
    assert not command_of(repeated, [{"op": "repeat", "bar": 0, "times": 3, "prefix": "fill"}])


def test_a_fill_plays_at_the_end_of_every_so_many_bars_and_stays_where_it_is(document):
    grid = Grid(((0.0, 120.0),), beats_per_bar=1.0)  # eight bars of half a second
    begun = replace(document, grid=grid)
    fill = {"op": "fill", "bar": 1, "every": 4, "prefix": "f", "classes": ["HH", "KD"]}
    after = done(begun, fill)  # bar 1 holds the hi-hat; bars 3 and 7 are the fills
    assert [s.onset_s for s in after.strokes.played if s.drum_class == "HH"] == [0.5, 1.5, 3.5]
    assert [s for s in after.strokes.played if s.drum_class != "HH"] == [s for s in FOUND if s.id != "d1"]
    assert not command_of(after, [fill])
    with pytest.raises(RhythmError, match="does not fit"):
        command_of(begun, [{**fill, "n_bars": 4}])


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "fill", "bar": 8, "every": 2},
        {"op": "fill", "bar": 0, "every": 8},
        {"op": "repeat", "bar": -3, "times": 2},
        {"op": "repeat", "bar": 1, "times": 1},
        {"op": "repeat", "bar": 0, "times": 1, "classes": ["CY"]},
    ],
)
def test_bars_without_strokes_or_without_a_place_clear_nothing(document, edit):
    with pytest.raises(RhythmError, match="nothing to play again"):
        command_of(document, [{**edit, "prefix": "p"}])


def test_lanes_are_muted_soloed_and_turned_down_in_what_sounds_alone(document):
    lanes = {"KD": Lane(gain_db=-6.0), "SD": Lane(is_muted=True)}
    mixed = replace(document, lanes=lanes)
    assert mixed.strokes == document.strokes
    kick, hat, *others = mixed.sounding.played
    assert [s.drum_class for s in others] == ["KD"]
    assert hat == FOUND[1]
    assert 20 * LEVEL_EXPONENT * math.log10(kick.velocity / FOUND[0].velocity) == pytest.approx(-6.0)
    soloed = replace(document, lanes={**lanes, "HH": Lane(is_soloed=True)})
    assert soloed.sounding.played == (FOUND[1],)
    loud = replace(document, lanes={"SD": Lane(gain_db=12.0)})
    assert [s.velocity for s in loud.sounding.played if s.drum_class == "SD"] == [1.0, 1.0]


def test_a_dragged_line_changes_the_tempo_before_it_and_moves_what_follows():
    grid = Grid()
    dragged = grid.with_line_at(4, 2.2)
    assert dragged.time_of(4) == pytest.approx(2.2)
    assert dragged.time_of(2) == pytest.approx(1.1)
    assert dragged.time_of(8) == pytest.approx(4.2)
    again = dragged.with_line_at(8, 4.0)
    assert [again.time_of(beat) for beat in (4, 8, 12)] == pytest.approx([2.2, 4.0, 6.0])
    assert grid.with_line_at(0, 0.3).time_of(4) == pytest.approx(2.3)
    for time_s in (0.0, -1.0, 1e-9):
        with pytest.raises(RhythmError):
            grid.with_line_at(4, time_s)


def test_beats_and_seconds_of_a_grid_are_inverse():
    grid = Grid(((0.0, 120.0), (4.0, 90.0), (6.0, 150.0)), 3.0, 0.37)
    for beat in (-3.0, 0.0, 4.5, 5.99, 100.0):
        assert grid.beat_at(grid.time_of(beat)) == pytest.approx(beat)


@pytest.mark.parametrize(
    ("placing", "onsets_s", "length_s"),
    [
        # 4 beats of 120 BPM from a downbeat at 0; the flam's two strokes are 20 ms apart in its own time.
        (Placing(), [0.0, 1.0, 1.0 + 0.02 * 160 / 120], 2.0),
        (Placing(tempo="own"), [0.0, 0.75, 0.77], 1.5),
        (Placing(length="source"), [0.0, 1.0, 1.0267, 2.0, 3.0, 3.0267], 4.0),
        (Placing(tempo="own", length="source"), [0, 0.75, 0.77, 1.5, 2.25, 2.27, 3.0, 3.75, 3.77], 4.0),
    ],
)
def test_a_rhythm_plays_in_the_place_of_what_played(document, placing, onsets_s, length_s):
    draft = Draft(document)
    replace_rhythm(draft, RHYTHM, placing)
    replaced = document.applied(draft.command())
    assert [s.onset_s for s in replaced.strokes.played] == pytest.approx(onsets_s, abs=1e-4)
    assert (replaced.mode, replaced.length_s) == ("replay", pytest.approx(length_s))
    assert replaced.detected == document.detected
    assert document.applied(draft.command()).applied(draft.command().inverse) == document


def test_one_lane_of_another_rhythm_plays_along_with_the_others(document):
    draft = Draft(replace(document, mode="edit"))
    replace_rhythm(draft, RHYTHM, Placing(classes=frozenset({"KD"})))
    after = document.applied(draft.command())
    assert [s.onset_s for s in after.strokes.played if s.drum_class == "KD"] == [0.0, 2.0]  # 4 beats at 120
    assert [s for s in after.strokes.played if s.drum_class != "KD"] == [
        s for s in FOUND if s.drum_class != "KD"
    ]
    assert (after.mode, after.length_s, after.detected) == ("edit", document.length_s, document.detected)


def test_a_rhythm_looped_over_the_source_plays_before_the_downbeat_too(document):
    draft = Draft(document)
    draft.fields["grid"] = Grid(downbeat_s=1.5)
    replace_rhythm(draft, RHYTHM, Placing(length="source"))
    onsets = [s.onset_s for s in draft.document.applied(draft.command()).strokes.played if s.drum_class == "KD"]
    assert onsets == pytest.approx([1.5, 3.5])
    snares = [s.onset_s for s in draft.played.values() if s.drum_class == "SD"]
    assert min(snares) == pytest.approx(0.5)


def test_a_rhythm_of_unknown_tempo_plays_in_its_own_seconds(document):
    draft = Draft(document)
    replace_rhythm(draft, Rhythm(RHYTHM.events, 1.5, None, "free"), Placing())
    assert sorted(s.onset_s for s in draft.played.values()) == pytest.approx([0, 0.75, 0.77])
    assert draft.grid == document.grid


def test_a_rhythm_that_would_be_endless_is_refused(document):
    draft = Draft(document)
    dense = Rhythm((DrumEvent(0.0, "KD", 1.0),), 1e-5, None, "dense")
    with pytest.raises(RhythmError, match="dense would be more than"):
        replace_rhythm(draft, dense, Placing(length="source"))


def test_to_edit_again_ends_with_the_recording(document):
    draft = Draft(document)
    replace_rhythm(draft, Rhythm((*RHYTHM.events, DrumEvent(7.0, "CY", 1.0)), 8.0, None, "long"), Placing())
    long = document.applied(draft.command())
    assert long.length_s == 8
    back = Draft(long)
    change_mode(back, "edit")
    edited = long.applied(back.command())
    assert edited.length_s == LENGTH_S
    assert max(s.onset_s for s in edited.played.values()) < LENGTH_S


def redetected(document, found, **sensitivity):
    draft = Draft(document)
    redetect(draft, found, sensitivity)
    command = draft.command()
    after = document.applied(command)
    assert after.applied(command.inverse) == document
    return after


def test_another_sensitivity_leaves_what_the_user_did(document):
    corrected = done(
        document,
        {"op": "relabel", "id": "d0", "class": "TT"},
        {"op": "dismiss", "id": "d1"},
        {"op": "detect", "id": "mine", "class": "SD", "onset_s": 1.5},
        {"op": "move", "id": "d3", "onset_s": 2.2},
    )
    ghosts = [Stroke("d0", "SD", 1.51, 0.2), Stroke("d1", "SD", 2.5, 0.2)]  # the first one is there: "mine"
    more = redetected(corrected, [*FOUND, *ghosts], SD=0.5)
    (new,) = set(more.detected) - set(corrected.detected)
    assert more.detected[new].onset_s == 2.5
    assert more.played == {**corrected.played, new: more.detected[new]}
    left = redetected(more, [], SD=-1.0)
    # Relabelled, detected and moved strokes stay; the others were nothing but estimates.
    assert set(left.detected) == {"d0", "mine", "d3"}
    assert set(left.played) == {"d0", "mine", "d3"}
    assert left.sensitivity == {"SD": -1.0}


TOUCHED = {
    "delete": [{"op": "delete", "id": "d2"}],
    "dismiss": [{"op": "dismiss", "id": "d2"}],
    "delete and dismiss": [{"op": "delete", "id": "d2"}, {"op": "dismiss", "id": "d2"}],
    "relabel": [{"op": "relabel", "id": "d2", "class": "TT"}],
    "shift": [{"op": "shift", "id": "d2", "onset_s": 1.05}],
    "relabel and shift": [
        {"op": "relabel", "id": "d2", "class": "TT"},
        {"op": "shift", "id": "d2", "onset_s": 1.05},
    ],
    "move": [{"op": "move", "id": "d2", "onset_s": 2.5}],
    "velocity": [{"op": "set", "id": "d2", "velocity": 0.1}],
    "relabel and delete": [{"op": "relabel", "id": "d2", "class": "TT"}, {"op": "delete", "id": "d2"}],
}
FEWER = [stroke for stroke in FOUND if stroke.drum_class != "SD"]


def layers(document):
    return document.detected, document.played


def shapes(layer):
    """Return strokes without what detection calls them."""
    return sorted((replace(stroke, id="-") for stroke in layer.values()), key=lambda s: s.onset_s)


@pytest.mark.parametrize("edits", TOUCHED.values(), ids=TOUCHED)
def test_what_the_user_made_of_a_stroke_outlasts_sensitivities_down_and_up(document, edits):
    touched = done(document, *edits)
    down = redetected(touched, FEWER, SD=-1.0)
    assert "d4" not in down.detected  # untouched, and not found any more
    assert "d4" not in down.played
    for found, expected in zip(layers(down), layers(touched), strict=True):
        assert found.get("d2") == expected.get("d2")
    for drum_class, near_s in (("SD", 0.01), ("SD", -0.02), ("SD", 0.0), ("TT", 0.005)):
        again = Stroke("d9", drum_class, 1.0 + near_s, 0.7)
        if edits[0]["op"] in ("delete", "move", "set") and drum_class != "SD":
            continue  # what is in the recording there was not corrected: a tom beside it is another stroke
        up = redetected(down, [*FEWER, again, FOUND[4]], SD=0.0)
        assert {i: s for i, s in up.detected.items() if s.onset_s < 3} == {
            i: s for i, s in touched.detected.items() if s.onset_s < 3
        }
        assert {i: s for i, s in up.played.items() if s.onset_s < 3} == {
            i: s for i, s in touched.played.items() if s.onset_s < 3
        }
        assert shapes({i: s for i, s in up.played.items() if s.onset_s == 3}) == [replace(FOUND[4], id="-")]


def test_what_nobody_touched_goes_and_comes_with_the_sensitivity(document):
    down = redetected(document, FEWER, SD=-1.0)
    assert down.played == down.detected == {s.id: s for s in FEWER}
    up = redetected(down, FOUND)
    assert [shapes(layer) for layer in layers(up)] == [shapes(document.detected)] * 2
    assert redetected(document, FOUND) == document


def test_an_id_is_never_another_stroke_s(document):
    history = History(document)
    for found in (FEWER, FOUND, [], FOUND):
        draft = Draft(history.document, history.known_ids)
        redetect(draft, found, {})
        command = draft.command()
        for change in command.strokes:
            assert change.after is None or change.id not in history.known_ids
        history.do(command)
    for prefix in ("r0", "r1"):
        draft = Draft(history.document, history.known_ids)
        replace_rhythm(draft, RHYTHM, Placing())
        assert set(draft.played) == {f"{prefix}.{i}" for i in range(3)}
        history.do(draft.command())
        history.undo()


def test_another_drum_beside_a_corrected_stroke_that_is_found_again_is_a_new_stroke(document):
    relabelled = done(document, {"op": "relabel", "id": "d1", "class": "CY"})
    kick = Stroke("d9", "KD", 0.5, 0.6)
    more = redetected(relabelled, [*FOUND, kick], KD=0.5)
    assert [s for s in more.detected.values() if s.onset_s == 0.5] == [
        Stroke("d1", "CY", 0.5, 0.4),
        replace(kick, id="d5"),
    ]
    # Found again as what the user says it is, beside what it was estimated as, it is still one stroke.
    both = redetected(relabelled, [*FOUND, Stroke("d9", "CY", 0.51, 0.6)], CY=0.5)
    assert layers(both) == layers(relabelled)


def test_a_stroke_drawn_by_hand_stays_one_and_as_it_was_drawn(document):
    drawn = done(document, {"op": "detect", "id": "mine", "class": "SD", "onset_s": 1.5, "velocity": 0.2})
    for found in (Stroke("d0", "SD", 1.515, 0.3), Stroke("d0", "SD", 1.5, 0.2)):
        up = redetected(drawn, [*FOUND, found], SD=0.5)
        assert layers(up) == layers(drawn)
        assert layers(redetected(up, FOUND)) == layers(drawn)
        dismissed = done(up, {"op": "dismiss", "id": "mine"})
        again = redetected(redetected(dismissed, FOUND), [*FOUND, found], SD=0.5)
        assert layers(again) == layers(document)


def test_in_a_replay_sensitivities_change_nothing_that_plays(document):
    draft = Draft(document)
    replace_rhythm(draft, RHYTHM, Placing())
    replay = document.applied(draft.command())
    down = redetected(replay, FEWER, SD=-1.0)
    assert down.played == replay.played
    assert down.detected == {s.id: s for s in FEWER}
    up = redetected(down, FOUND)
    assert (up.played, shapes(up.detected)) == (replay.played, shapes(document.detected))


@given(st.integers(0, 2**32))
def test_moving_sensitivities_never_changes_what_was_edited(seed):
    chance = random.Random(seed)
    before = Document.of_detection(FOUND, LENGTH_S, Grid())
    touched = set()
    for _ in range(chance.randrange(1, 6)):
        stroke_id, at_s = chance.choice(FOUND).id, chance.uniform(0, LENGTH_S)
        edit = chance.choice(
            [
                {"op": "delete", "id": stroke_id},
                {"op": "dismiss", "id": stroke_id},
                {"op": "move", "id": stroke_id, "onset_s": at_s},
                {"op": "relabel", "id": stroke_id, "class": "CY"},
                {"op": "shift", "id": stroke_id, "onset_s": at_s},
            ]
        )
        with suppress(RhythmError):  # it is gone already
            before = done(before, edit)
            touched.add(stroke_id)
    after = before
    for _ in range(5):
        n = chance.randrange(len(FOUND) + 1)
        after = redetected(after, chance.sample(FOUND, n), SD=chance.uniform(-1, 1))
        for stroke_id in touched:
            for layer in ("detected", "played"):
                assert after.layer(layer).get(stroke_id) == before.layer(layer).get(stroke_id)
    back = redetected(after, FOUND)
    assert [shapes(layer) for layer in layers(back)] == [shapes(layer) for layer in layers(before)]


@pytest.mark.parametrize("onset_s", [LENGTH_S, LENGTH_S + 1])
def test_onsets_never_reach_the_end(document, onset_s):
    with pytest.raises(RhythmError, match="onset_s of edit 1 is"):
        done(document, {"op": "move", "id": "d4", "onset_s": onset_s})
