import attention_picture as module
import numpy as np
import pytest
from attention_picture import Attended, attended, draw_attention, main
from matplotlib.image import imread

from transform.audio import Recording
from transform.events import DrumEvent
from transform.library import demo_recordings
from transform.rhythm_transformer import activations_of_events

ORDER = {"source": ("KD", "SD", "HH"), "target": ("HH", "KD", "SD")}
ONSETS_S = (0.2, 0.6, 1.0)


def played(name):
    return [DrumEvent(s, c, 0.8) for s, c in zip(ONSETS_S, ORDER[name], strict=True)]


@pytest.fixture
def recordings(hit, monkeypatch):
    """Return a source and a target of three strokes, which are heard as they are played."""

    class Knowing:
        @classmethod
        def load(cls, path):
            return cls()

        def activations(self, recording, progress=None):
            self.heard = played(recording.name)
            n_frames = recording.n_samples // 441 + 1
            return activations_of_events(self.heard, n_frames, heights=[0.8] * 3, widths=[1.5] * 3)

        def events(self, activations):
            return self.heard

    monkeypatch.setattr(module, "Transcriber", Knowing)
    made = []
    for name, order in ORDER.items():
        samples = np.zeros(60_000, dtype=np.float32)
        for onset_s, drum_class in zip(ONSETS_S, order, strict=True):
            sound, start = 0.5 * hit(drum_class), round(44_100 * onset_s)
            samples[start : start + len(sound)] += sound
        made.append(Recording.from_samples(samples, 44_100, name))
    return made


def test_strokes_are_found_where_the_source_plays_them(recordings, write_untrained, tmp_path):
    found = attended(write_untrained(tmp_path, with_rhythm=True), *recordings)
    assert [event.drum_class for event in found.target_events] == ["HH", "KD", "SD"]
    assert found.composed.shape == found.first.shape
    assert [layer.shape[1] for layer in found.later] == [len(layer) + 1 for layer in found.later]
    assert found.composed.sum(axis=1) == pytest.approx(1.0, abs=1e-3)
    assert found.first.sum(axis=1) == pytest.approx(1.0, abs=1e-3)
    for drum_class in ("HH", "KD", "SD"):
        at, wanted = (
            next(round(e.onset_s / found.frame_s) + 2 for e in events if e.drum_class == drum_class)
            for events in (found.target_events, found.source_events)
        )
        assert abs(int(found.first[at].argmax()) - wanted) <= 2

    draw_attention(tmp_path / "a b.png", found, source="one", target="another")
    assert imread(tmp_path / "a b.png").shape[1] > 800


def test_more_attention_is_darker_where_it_belongs(tmp_path):
    def drawn(shares):
        draw_attention(tmp_path / "x.png", Attended(shares, (), shares, 0.1, [], []), source="", target="")
        return imread(tmp_path / "x.png")[..., :3].mean(axis=2)

    # Ten frames of the target attend to silence; then the first two of them to the last of ten source frames.
    nothing = np.zeros((10, 11), dtype=np.float32)
    nothing[:, -1] = 1.0
    something = nothing.copy()
    something[:2, 9], something[:2, -1] = 1.0, 0.0
    blank, dark = drawn(nothing), drawn(something)
    changed = np.argwhere(blank - dark > 0.8)
    rows, columns = changed[:, 0], changed[:, 1]
    assert len(changed) > 1000
    large = columns < 0.7 * blank.shape[1]
    assert columns[large].max() < 0.4 * blank.shape[1]  # at the left: early
    assert rows[large].max() < 0.3 * blank.shape[0]  # at the top: late in the source


def test_the_command_draws_a_pair_of_real_recordings(tmp_path, monkeypatch):
    asked, drawn = [], []
    monkeypatch.setattr(
        module, "attended", lambda preset, source, target: asked.append((source.name, target.name))
    )
    monkeypatch.setattr(module, "draw_attention", lambda path, found, **names: drawn.append((path, names)))
    main(tmp_path / "out.png")
    ((source, target),) = asked
    assert source != target
    assert {source, target} <= {demo.name for demo in demo_recordings()}
    assert drawn == [(tmp_path / "out.png", {"source": source, "target": target})]
