import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.bench import benchmark as module
from training.bench import items as bench_items
from training.bench.benchmark import BenchSettings, clustered_mean, run_benchmark, score, source_files
from training.bench.items import BenchItem, ItemMaker, kit_halves
from training.bench.peak_memory import peak_memory_mb
from training.bench.report import markdown, write_report
from training.bench.systems import (
    AUDIO_RHYTHM,
    BEST_COPIES,
    CODED_ORACLE,
    GENERATED_AUDIO,
    GENERATED_MIDI,
    GENERATED_TRUE,
    KIT_SYSTEMS,
    LATENT_AUDIO,
    LATENT_MIDI,
    LATENT_TRUE,
    MIDI_RHYTHM,
    NMF_STEMS,
    OWN_LEVELS,
    PLAIN_SLICES,
    SYSTEMS,
    TRUE_SOURCE,
    TRUE_STEMS,
    given_back_db,
    play,
    systems_for,
    variant,
)
from training.card import begin_preset
from training.data.pack import PACK_FILES, PackError
from training.data.split import recording_family
from training.score.nmf import InformedNmf
from training.train.evaluation_transcriber import EVALUATION_CONFIG, EvaluationNet
from transform.audio import Recording
from transform.codec import Encoded
from transform.engine import Redrummer
from transform.errors import AudioError, CheckpointError, OutputError, RhythmError, SettingsError
from transform.events import CLASSES, DrumEvent, Rhythm
from transform.library import demo_recordings
from transform.presets import load_preset
from transform.transcriber import Activations, Transcriber

ROOT = Path(__file__).resolve().parents[3]
LATENT = (LATENT_AUDIO, LATENT_MIDI, GENERATED_AUDIO, GENERATED_MIDI)
UNKNOWN = {
    OWN_LEVELS,
    TRUE_STEMS,
    TRUE_SOURCE,
    LATENT_TRUE,
    GENERATED_TRUE,
    BEST_COPIES,
    CODED_ORACLE,
    "oracle",
}  # of a real loop


@pytest.fixture(scope="session")
def items(bench_pack):
    maker = ItemMaker(bench_pack, seed=0)
    return [maker.pair(0), maker.pair(1), maker.loop(0)]


class Knowing:
    """Stands in for the evaluation transcriber and hears what it is told to."""

    def __init__(self, events):
        self._events = list(events)

    def infer(self, audio):
        return None

    def events(self, activations):
        return self._events


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in BenchItem.__dataclass_fields__
    )


def test_items_follow_from_seed_and_number_alone(bench_pack, items):
    again = ItemMaker(bench_pack, seed=0)
    assert same(again.loop(0), items[2])
    assert same(again.pair(1), items[1])
    assert same(again.pair(0), items[0])
    assert not same(ItemMaker(bench_pack, seed=1).pair(0), items[0])


def test_pairs_have_the_agreed_lengths_and_an_oracle(items):
    for item in items:
        assert 6 * 44_100 <= len(item.source) <= 8 * 44_100
        assert 3.0 <= item.length_s <= 6.0
        assert len(item.rhythm) >= 6
        assert {e.onset_s for e in item.truth} <= {e.onset_s for e in item.rhythm}
    for item in items[:2]:
        assert item.oracle.shape == item.target.shape
        assert item.oracle.any()
        # What the source never plays, the oracle cannot play.
        assert {e.drum_class for e in item.truth} <= {e.drum_class for e in item.source_events}
        # What the stems leave of the source is its noise.
        noise = item.source - item.stems.sum(axis=0)
        assert np.square(noise).sum() < 0.1 * np.square(item.source).sum()
        heard = {e.drum_class for e in item.source_events}
        assert heard <= {c for c, stem in zip(CLASSES, item.stems, strict=True) if stem.any()}
    assert items[2].oracle is None
    assert items[2].stems is None
    assert items[2].kit == "real"


def test_halves_share_no_recordings(bench_pack):
    halves = kit_halves([kit for kit in bench_pack.kits if kit.split == "test"])
    names = [{kit.name for kit in half} for half in halves]
    assert {"avl-one", "h2-black-pearl"} in [{n for n in half if not n.startswith("dsyn")} for half in names]
    assert not names[0] & names[1]
    families = [{recording_family(name) for name in half} for half in names]
    assert not families[0] & families[1]
    with pytest.raises(PackError, match="no two test kits"):
        kit_halves([kit for kit in bench_pack.kits if recording_family(kit.name) == "avl-"])


def test_source_and_target_are_of_different_halves(bench_pack, monkeypatch):
    maker = ItemMaker(bench_pack, seed=0)
    used = []
    draw = maker._recipe
    monkeypatch.setattr(
        maker, "_recipe", lambda kits, *rest: used.append({k.name for k in kits}) or draw(kits, *rest)
    )
    sources = {maker.pair(i).kit for i in range(4)}
    assert all(not source & target for source, target in zip(used[::2], used[1::2], strict=True))
    assert sources & {"avl-one", "h2-black-pearl"}  # either half is the source in its turn
    assert sources & {"dsyn-a", "dsyn-b"}
    assert "trained-on" not in set().union(*used)


def test_a_pack_without_a_test_side_is_a_sentence(tiny_pack):
    with pytest.raises(PackError, match="no two test kits"):
        ItemMaker(tiny_pack, seed=0)


def test_copies_and_oracle_are_what_they_say(items):
    for item in items[:2]:
        n = len(item.target)
        source_copy, target_copy, oracle = (
            play(system, item, None, None)[0] for system in ("source copy", "target copy", "oracle")
        )
        assert np.array_equal(source_copy, item.source[:n])
        assert np.array_equal(target_copy, item.target)
        assert np.array_equal(oracle, item.oracle)


def test_a_failure_is_silence_with_its_reason(items, caplog):
    class Failing:
        def redrum(self, *_):
            raise RhythmError("nothing is heard")

    audio, seconds, failure = play(AUDIO_RHYTHM, items[0], Failing(), None)
    assert not audio.any()
    assert len(audio) == len(items[0].target)
    assert seconds > 0
    assert failure == "nothing is heard"
    assert "pair-0000" in caplog.text


def test_the_engine_is_known_what_the_row_says(items):
    told = []

    class Listening:
        def redrum(self, source, rhythm, settings):
            told.append((source, rhythm, settings))
            raise RhythmError("enough")

    for system in (AUDIO_RHYTHM, MIDI_RHYTHM, *LATENT):
        play(system, items[0], Listening(), None)
    (source, heard, _), (_, written, settings), *others = told
    assert [s.engine for _, _, s in told] == 2 * ["resequence"] + 4 * ["latent"]
    assert [s.attack for _, _, s in told[2:]] == ["original", "original", "none", "none"]
    assert [isinstance(rhythm, Rhythm) for _, rhythm, _ in others] == [False, True, False, True]
    assert np.array_equal(source.read(0, source.n_samples)[0], items[0].source)
    assert np.array_equal(heard.read(0, heard.n_samples)[0], items[0].target)
    assert isinstance(written, Rhythm)
    assert sorted(written.events, key=repr) == sorted(items[0].rhythm, key=repr)
    assert settings.length == items[0].length_s


class Told:
    """Stands in for a transcriber and hears what it is told to."""

    def __init__(self, events):
        self._events = sorted(events, key=lambda event: event.onset_s)

    def activations(self, recording, progress=None):
        probability = np.zeros((5, recording.n_samples // 441 + 1), dtype=np.float32)
        for event in self._events:
            frame = min(probability.shape[1] - 1, round(event.onset_s * 100))
            probability[CLASSES.index(event.drum_class), frame] = 1.0
        return Activations(probability, probability, 0 * probability, probability[:1])

    def events(self, activations):
        return self._events


@pytest.fixture(scope="session")
def nmf(bench_pack):
    return InformedNmf([kit for kit in bench_pack.kits if kit.split == "train"])


def test_variants_have_the_stems_and_events_that_their_name_says(items, nmf):
    class Preset:
        transcriber, separator = Told([]), object()

    item = items[0]
    source = Recording.from_samples(item.source, 44_100)
    assert variant(MIDI_RHYTHM, item, Preset, nmf) is Preset
    assert variant(PLAIN_SLICES, item, Preset, nmf).separator is None
    assert variant(NMF_STEMS, item, Preset, nmf).separator is nmf
    for system in (TRUE_STEMS, TRUE_SOURCE):
        exact = variant(system, item, Preset, nmf)
        activations = exact.transcriber.activations(source)
        stems = exact.separator.open(source, activations).read(0, source.n_samples)
        assert np.array_equal(stems[:, 0], item.stems)
        told = tuple(exact.transcriber.events(activations))
        assert set(told) == (set(item.source_events) if system == TRUE_SOURCE else set())


def test_every_variant_plays_the_rhythm(items, nmf):
    item = items[0]
    redrummer = Redrummer(Told(item.source_events))
    n = len(item.target)
    away_db = {"source copy": score(item.source[:n], item, Knowing([]))["log_mel_db"]}
    for system in (PLAIN_SLICES, NMF_STEMS, TRUE_STEMS, TRUE_SOURCE):
        audio, seconds, failure = play(system, item, redrummer, nmf)
        assert (audio.shape, failure) == ((n,), "")
        assert seconds > 0
        away_db[system] = score(audio, item, Knowing(item.truth))["log_mel_db"]
        assert away_db[system] < 0.5 * away_db["source copy"]
    # The events that are heard are the true ones.
    assert away_db[TRUE_SOURCE] == away_db[TRUE_STEMS]


def test_of_a_real_loop_nobody_knows_the_truth(items):
    assert systems_for(items[0], has_codec=True, has_latent=True) == SYSTEMS
    of_a_loop = set(systems_for(items[2], has_codec=True, has_latent=True))
    assert set(SYSTEMS) - of_a_loop == UNKNOWN


def test_what_the_preset_has_no_models_for_is_left_out(items):
    latent = {*LATENT, LATENT_TRUE, GENERATED_TRUE}
    for item in (items[0], items[2]):
        every = set(systems_for(item, has_codec=True, has_latent=True))
        assert every - set(systems_for(item, has_codec=True, has_latent=False)) == every & latent
        assert not latent & set(systems_for(item, has_codec=False, has_latent=False))
    assert not {BEST_COPIES, CODED_ORACLE} & set(systems_for(items[0], has_codec=False, has_latent=False))


def test_the_oracle_goes_through_the_codec(items):
    class Halving:
        def encode(self, audio):
            return Encoded(audio[:, None], audio[:, None], audio[:, None])

        def decode(self, latents, n_samples):
            return 0.5 * latents[:, 0, :n_samples]

    audio, seconds, failure = play(CODED_ORACLE, items[0], None, None, Halving())
    assert np.array_equal(audio, 0.5 * items[0].oracle)
    assert seconds > 0
    assert not failure


def test_the_best_copies_of_a_sources_own_frames_are_these(items):
    class Listing:
        """Ten samples a frame, which are its latents."""

        def encode(self, audio):
            return Encoded(*(audio[0, : audio.shape[1] // 10 * 10].reshape(1, -1, 10).mT,) * 3)

        def decode(self, latents, n_samples):
            return latents.mT.reshape(1, -1)[:, :n_samples]

    loud = 1000 * np.random.default_rng(0).standard_normal(400).astype(np.float32)
    item = replace(items[0], source=loud, oracle=np.concatenate((loud[200:], loud[:100], np.zeros(100, "f4"))))
    audio, _, failure = play(BEST_COPIES, item, None, None, Listing())
    assert np.array_equal(audio, item.oracle)
    assert not failure


def test_a_kit_gives_its_loop_back(clicks, hit, tmp_path):
    # Kick and hat in turns, each time the same: what is extracted is what was played.
    loop = np.zeros(88_200, dtype=np.float32)
    events = []
    for i in range(8):
        drum_class = ("KD", "HH")[i % 2]
        sound = 0.5 * hit(drum_class)
        loop[i * 11_025 : i * 11_025 + len(sound)] += sound[: len(loop) - i * 11_025]
        events.append(DrumEvent(i * 0.25, drum_class, 0.8))
    recording = Recording.from_samples(loop, 44_100, "loop")
    distance_db = given_back_db(recording, Redrummer(Told(events)), tmp_path / "kit")
    assert distance_db < 1.0
    assert sorted({path.suffix for path in (tmp_path / "kit").iterdir()}) == [".json", ".sfz", ".wav"]
    # Two classes that are never alone cannot be extracted without stems.
    together = [replace(event, drum_class=c) for event in events for c in ("KD", "SD")]
    with pytest.raises(AudioError, match="alone"):
        given_back_db(recording, Redrummer(Told(together)), tmp_path / "other")


def test_the_oracle_is_perfect_to_a_perfect_listener(items):
    item = items[0]
    scores = score(item.oracle, item, Knowing(item.truth))
    for name in ("class_f_50", "class_f_30", "class_f_10", "onset_f_50", "onset_f_20"):
        assert scores[name] == 1
    assert scores["timing_sd_ms"] == pytest.approx(0, abs=1e-9)
    for name in ("log_mel_db", "high_db", "high_abs_db", "pre_echo_db"):
        assert scores[name] == 0
    assert scores["likeness"] > 0.5
    assert score(item.target, item, Knowing(item.truth))["likeness"] < 0.1


def test_late_hits_fail_the_narrow_windows_and_keep_their_spread(items):
    item = items[0]
    late = [replace(event, onset_s=event.onset_s + 0.015) for event in item.truth]
    scores = score(item.oracle, item, Knowing(late))
    assert scores["class_f_30"] == 1
    assert scores["class_f_10"] == 0
    assert scores["onset_f_20"] > 0.9
    assert scores["timing_sd_ms"] == pytest.approx(0, abs=1e-6)


def test_of_a_real_loop_only_onsets_are_scored(items):
    scores = score(items[2].source[: len(items[2].target)], items[2], Knowing(items[2].truth))
    assert scores == {"onset_f_50": 1.0, "onset_f_20": 1.0}


def test_silence_is_scored_and_not_an_error(items):
    scores = score(np.zeros_like(items[0].target), items[0], Knowing([]))
    assert scores["class_f_50"] == 0
    assert scores["log_mel_db"] > 5
    assert scores["timing_sd_ms"] is None
    assert scores["pre_echo_db"] is None


def test_intervals_are_over_kits_and_rhythms():
    # All differences are between two kits: which of them is drawn decides everything.
    values, kits = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    grooves = [f"groove {i % 25}" for i in range(100)]
    mean = clustered_mean(values, kits, grooves, n_resamples=500)
    assert (mean.mean, mean.low, mean.high, mean.n) == (0.5, 0.0, 1.0, 100)
    many_kits = clustered_mean(values, [str(i) for i in range(100)], grooves, n_resamples=500)
    assert 0.3 < many_kits.low < 0.45 < 0.55 < many_kits.high < 0.7
    constant = clustered_mean([3.0] * 10, kits[:10], grooves[:10], n_resamples=100)
    assert (constant.low, constant.high) == (3.0, 3.0)
    assert clustered_mean(values, kits, grooves, n_resamples=500) == mean


@pytest.fixture
def bench(bench_pack, monkeypatch, tmp_path):
    """Return a function that runs a small benchmark in tmp_path/out, its pack made and its judge untrained."""
    (tmp_path / "pack").mkdir()
    for name in PACK_FILES:
        (tmp_path / "pack" / name).write_bytes(b"made")
    judge = tmp_path / "judge.safetensors"
    judge.write_bytes(b"made")
    torch.manual_seed(0)
    net = EvaluationNet(replace(EVALUATION_CONFIG, widths=(4, 4, 8, 8), d_model=16, thresholds=(0.45,) * 5))
    monkeypatch.setattr(module, "shipped_weights", lambda: judge)
    monkeypatch.setattr(module, "_code", lambda: [judge])
    monkeypatch.setattr(module, "load_evaluation_transcriber", lambda path: Transcriber(net.eval()))
    monkeypatch.setattr(module, "load_pack", lambda folder: bench_pack)
    monkeypatch.setattr(bench_items, "_SOURCE_S", (2.0, 2.5))  # a third of the real items
    monkeypatch.setattr(bench_items, "_TARGET_S", (1.5, 2.0))

    def run(overwrite=False, **changes):
        settings = BenchSettings(**({"n_pairs": 2, "n_loops": 1, "n_memory": 0, "n_resamples": 50} | changes))
        return run_benchmark(tmp_path / "pack", tmp_path / "out", settings, overwrite=overwrite)

    return run


def test_a_run_has_all_rows(bench):
    result = bench(n_pairs=1)
    rows = [(row["material"], row["system"]) for row in result["rows"]]
    stems = ["mixture", "NMF, fixed templates", "NMF, informed"]
    if "separator" in load_preset("default").models:
        stems.append("separator")
    stems.append("ideal ratio mask")
    models = load_preset("default").models
    missing = [] if "codec-encoder" in models else [BEST_COPIES, CODED_ORACLE]
    missing += [] if "rhythm" in models else [*LATENT, LATENT_TRUE, GENERATED_TRUE]
    of_pairs = [system for system in SYSTEMS if system not in missing]
    of_loops = [s for s in of_pairs if s not in UNKNOWN]
    for material, systems in (("pairs", of_pairs), ("loops", of_loops), ("stems", stems)):
        assert [system for of, system in rows if of == material] == list(systems)
    found = {(row["material"], row["system"]): row for row in result["rows"]}
    oracle = found["pairs", "oracle"]
    assert oracle["n"] == 1
    assert oracle["measures"]["log_mel_db"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 1}
    assert "real_time_factor" not in oracle["measures"]
    assert found["pairs", MIDI_RHYTHM]["measures"]["real_time_factor"]["mean"] > 0
    ideal_db, mixture_db = (
        found["stems", name]["measures"]["mean"]["mean"] for name in ("ideal ratio mask", "mixture")
    )
    assert ideal_db > mixture_db
    for system in KIT_SYSTEMS:
        assert 0 < found["loops", system]["measures"]["given_back_db"]["mean"] < 60
    table = markdown(result)
    assert table.count("| oracle |") == 6
    assert "| oracle | 0.00 (0.00 to 0.00) |" in table
    assert table.count("| ideal ratio mask |") == 1
    assert "Of the gain of the ideal ratio mask over the mixture: NMF, fixed templates " in table
    assert "redrum bench --data PACK --items 1 --seed 0" in table


def test_a_run_that_failed_before_its_first_item_is_begun_anew(bench, tmp_path, monkeypatch):
    def failing(item, *_):
        raise AudioError("its annotations are wrong")

    def made_up(item, *_):
        systems = {"oracle": {"class_f_50": 1.0}}
        made = {"kit": item.kit, "groove": item.groove, "source_groove": "", "systems": systems}
        return made | {"material": "pairs", "separators": {}, "failures": {}}

    monkeypatch.setattr(module, "_scored", failing)
    with pytest.raises(AudioError, match="annotations are wrong"):
        bench(n_pairs=1, n_loops=0)
    monkeypatch.setattr(module, "_scored", made_up)
    assert bench(n_pairs=1, n_loops=0, seed=5)["run"]["seed"] == 5
    log = tmp_path / "out" / "items.jsonl"
    log.write_text("my notes\n", encoding="utf-8")
    with pytest.raises(OutputError, match="holds no items of a benchmark"):
        bench(n_pairs=1, n_loops=0)
    assert log.read_text(encoding="utf-8") == "my notes\n"


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(bench, tmp_path, monkeypatch):
    scored = []

    def made_up(item, *_):
        scored.append(item.name)
        made = {"item": item.name, "kit": item.kit, "groove": item.groove, "source_groove": ""}
        value = float(item.name[-1]) + len(scored)
        systems = {"oracle": {"class_f_50": value, "velocity": None}}
        return made | {"material": "pairs", "systems": systems, "separators": {}, "failures": {}}

    monkeypatch.setattr(module, "_scored", made_up)
    result = bench(n_pairs=1)
    assert scored == ["pair-0000", "loop-0000"]
    assert bench(n_pairs=1) == result
    assert len(scored) == 2
    log = tmp_path / "out" / "items.jsonl"
    log.write_text(log.read_text(encoding="utf-8")[:-20], encoding="utf-8")  # as a crash leaves it
    longer = bench(n_pairs=2)
    assert scored[2:] == ["pair-0001", "loop-0000"]
    assert [row["n"] for row in longer["rows"]] == [3]
    assert list(longer["rows"][0]["measures"]) == ["class_f_50"]
    assert bench(n_pairs=2) == longer  # what came after the broken line can be read

    before = log.read_bytes()
    with pytest.raises(OutputError, match="items of another run: another seed") as caught:
        bench(seed=5)
    assert "--overwrite" in caught.value.hint
    with monkeypatch.context() as changed:
        changed.setattr(module, "_code", lambda: [log])
        with pytest.raises(OutputError, match="another code"):
            bench()
    assert log.read_bytes() == before
    assert bench(seed=5, overwrite=True, n_pairs=1, n_loops=0)["run"]["seed"] == 5

    paths = write_report(longer, tmp_path / "out")
    assert [path.name for path in paths] == ["benchmark.md", "benchmark.json", "costs.json", "benchmark.png"]
    assert json.loads(paths[1].read_text(encoding="utf-8"))["rows"] == longer["rows"]
    assert paths[3].read_bytes()[:4] == b"\x89PNG"


def test_the_same_run_elsewhere_and_more_slowly_writes_the_same_benchmark(tmp_path):
    written = []
    for place, speed, memory_mb, f in (("here", 12.5, 610.0, 0.5), ("there", 3.1, 655.0, 0.5 + 1e-9)):
        measures = {
            name: {"mean": value, "low": value, "high": value, "n": 3}
            for name, value in (("class_f_50", f), ("real_time_factor", speed))
        }
        row = {"material": "pairs", "system": MIDI_RHYTHM, "n": 3, "failures": 0, "measures": measures}
        settings = {"n_pairs": 3, "seed": 0, "preset": "default", "recordings": f"{tmp_path}/{place}"}
        result = {"schema": 1, "settings": settings, "run": {"data": "cafe"}}
        (tmp_path / place).mkdir()
        _, scores, costs, _ = write_report(
            result | {"rows": [row | {"peak_memory_mb": memory_mb}]}, tmp_path / place
        )
        written.append(scores.read_bytes())
        assert place not in scores.read_text(encoding="utf-8")
        (cost,) = json.loads(costs.read_text(encoding="utf-8"))["rows"]
        assert (cost["real_time_factor"]["mean"], cost["peak_memory_mb"]) == (speed, memory_mb)
    assert written[0] == written[1]
    assert json.loads(written[0])["rows"][0]["measures"]["class_f_50"]["mean"] == 0.5


def test_code_is_what_a_module_imports(tmp_path):
    made = {
        "training/__init__.py": "import training.train_all",
        "training/judge.py": "import training.items\nfrom transform import play\nfrom transform.files import x",
        "training/items.py": "def draw():\n    from training.parts.kits import Kit",
        "training/parts/__init__.py": "",
        "training/parts/kits.py": "from . import rooms\nfrom training import judge",
        "training/parts/rooms.py": "",
        "training/parts/unused.py": "",
        "training/train_all.py": "from training import judge",
        "transform/__init__.py": "from transform.lazy import all_else",
        "transform/play.py": "import training",
        "transform/files.py": "x = 1",
        "transform/lazy.py": "all_else = 1",
        "daw_bridge/commands/cli.py": "",
    }
    for name, text in made.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = [path.relative_to(tmp_path).as_posix() for path in source_files("training.judge", tmp_path)]
    assert found == [
        "training/items.py",
        "training/judge.py",
        "training/parts/__init__.py",
        "training/parts/kits.py",
        "training/parts/rooms.py",
        "transform/files.py",
        "transform/play.py",
    ]


@pytest.mark.slow
def test_a_trainer_may_change_during_a_run_and_the_engine_may_not(bench, tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    for package in ("transform", "training", "daw_bridge"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    made_up = {
        "material": "pairs",
        "kit": "a",
        "groove": "b",
        "source_groove": "",
        "separators": {},
        "failures": {},
    }
    made_up["systems"] = {"oracle": {"class_f_50": 1.0}}
    monkeypatch.setattr(module, "_scored", lambda item, *_: {"item": item.name, **made_up})
    monkeypatch.setattr(module.Players, "load", lambda preset, pack, rows: None)  # nothing plays: it is made up
    monkeypatch.setattr(module, "_code", lambda: source_files("training.bench.benchmark", tree))

    def change(name):
        (path,) = (path for path in tree.rglob("*.py") if f"/{path}".endswith(f"/{name}"))
        before = path.read_bytes()
        path.write_bytes(before + b"\n# changed\n")
        return path, before

    result = bench(n_pairs=1, n_loops=0)
    for name in ("train/rhythm.py", "train/transcriber.py", "bench/report.py", "commands/cli.py"):
        change(name)
    assert bench(n_pairs=1, n_loops=0) == result
    for name in (
        "resequence.py",
        "latent.py",
        "bench/items.py",
        "bench/systems.py",
        "measures.py",
        "benchmark.py",
    ):
        path, before = change(name)
        with pytest.raises(OutputError, match="another code"):
            bench(n_pairs=1, n_loops=0)
        path.write_bytes(before)


@pytest.mark.slow
def test_a_second_preset_stands_beside_the_first(bench, tmp_path, monkeypatch):
    scored = []

    def made_up(item, players, listener):
        name, systems = players.preset.name, players.systems_for(item)
        scored.append((name, item.name))
        made = {"item": item.name, "kit": item.kit, "groove": item.groove, "source_groove": ""}
        measures = {"log_mel_db": {"default": 3.0, "second": 4.5}[name]}
        made |= {"systems": {system: measures for system in systems}, "separators": {}, "failures": {}}
        return made | {"material": "loops" if item.oracle is None else "pairs"}

    monkeypatch.setattr(module, "_scored", made_up)
    default, second = load_preset("default"), tmp_path / "of another name"
    begin_preset(default, second, "second", list(default.models))
    result = bench(n_pairs=1, beside=str(second))
    assert scored == [(name, item) for name in ("default", "second") for item in ("pair-0000", "loop-0000")]
    table = markdown(result)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    own, other = (
        next(i for i, line in enumerate(lines) if line.startswith(f"| {name} |"))
        for name in (CODED_ORACLE, f"{CODED_ORACLE}, second")
    )
    assert other == own + 1
    rows = {(row["material"], row["system"]) for row in result["rows"] if row.get("preset") == "second"}
    both = {(material, system) for material in ("pairs", "loops") for system in LATENT}
    assert rows == {*both, ("pairs", CODED_ORACLE)}  # the rest would be what the first preset's is
    assert f"| {LATENT_MIDI}, second | 4.50 (4.50 to 4.50) |" in table
    assert f"| {LATENT_MIDI} | 3.00 (3.00 to 3.00) |" in table
    assert f"--preset default --beside {second}" in table
    assert "Rows that end in `second` are played" in table

    # Other weights of the second preset leave what was measured of the first one as it is.
    (tmp_path / "out" / "items-beside.jsonl").unlink()
    assert bench(n_pairs=1, beside=str(second)) == result
    assert scored[4:] == [("second", "pair-0000"), ("second", "loop-0000")]
    assert bench(n_pairs=1, beside=str(second)) == result
    assert len(scored) == 6

    # Rows that were not requested are not played by the second preset either.
    few = bench(n_pairs=1, n_loops=0, beside=str(second), rows=(GENERATED_MIDI,), overwrite=True)
    assert [(row.get("preset"), row["system"]) for row in few["rows"]] == [
        (None, GENERATED_MIDI),
        ("second", GENERATED_MIDI),
    ]


def test_a_second_preset_needs_a_codec_and_a_name_of_its_own(bench, tmp_path):
    default = load_preset("default")
    with pytest.raises(SettingsError, match="both presets are called default"):
        bench(beside="default")
    begin_preset(default, tmp_path / "bare", "bare", ["transcriber"])
    with pytest.raises(CheckpointError, match="preset bare has no codec"):
        bench(beside=str(tmp_path / "bare"))
    assert not (tmp_path / "out").exists()


def test_without_a_pack_the_sentence_says_how_to_get_one(tmp_path):
    with pytest.raises(PackError, match="there is no packed data set in") as caught:
        run_benchmark(tmp_path / "none", tmp_path / "out", BenchSettings())
    assert "redrum train pack DATA --out PACK" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_impossible_settings_are_a_sentence():
    with pytest.raises(SettingsError, match="n_pairs is 0"):
        BenchSettings(n_pairs=0)


@pytest.mark.slow
def test_peak_memory_is_that_of_a_process_alone():
    with Recording.open(demo_recordings()[0].path) as recording:
        samples = recording.read(0, 5 * recording.sample_rate)[0]
    ballast = np.ones(50_000_000)  # 400 MB of ours are none of its
    needed = peak_memory_mb("default", samples, Rhythm((DrumEvent(0.0, "KD", 1.0),), 1.0, None, "one"))
    assert 100 < needed < 900
    assert len(ballast)
