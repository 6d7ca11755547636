"""What a take should be. Each setting is declared here once: its default, its check, and its option.

The commands build their options from the fields of `RenderSettings` (`transform.options`), so a field with an
option is all that a new one needs. Nothing heavy is imported: `redrum --help` reads this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from transform.errors import SettingsError
from transform.options import bars_of, by_class, classes, is_on, length_of, number, option, word_of

if TYPE_CHECKING:
    from transform.events import AlignMode

ENGINES = ("resequence", "latent")


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """What a take should be."""

    engine: str = field(
        default="resequence",
        metadata=option(
            "resequence|latent", "Replay the source's hits, or let a network play.", "resequence", read=word_of
        ),
    )
    length: str | float = field(  # source, rhythm, bars as in "4bars", or seconds
        default="rhythm",
        metadata=option(
            "source|rhythm|4bars|8s",
            "Length of the result; a shorter rhythm loops. A number alone is seconds.",
            "rhythm",
            read=length_of,
        ),
    )
    bpm: float | None = field(  # of the result; None: as `align` says
        default=None,
        metadata=option(
            "N",
            "Tempo of the result: the rhythm plays at it.",
            "as --align says",
            read=number("bpm", example=120),
        ),
    )
    align: AlignMode = field(
        default="auto",
        metadata=option(
            "auto|seconds|beats",
            "auto: in beats where both tempi are known, else in seconds.",
            "auto",
            read=word_of,
        ),
    )
    source_bpm: float | Literal["auto"] | None = field(  # None: from tag or file name
        default=None,
        metadata=option(
            "N|auto",
            "Tempo of the source; auto estimates it.",
            "from its tag or name",
            read=number("bpm", words=("auto",), example=120),
        ),
    )
    rhythm_bpm: float | Literal["auto"] | None = field(
        default=None,
        metadata=option(
            "N|auto",
            "Tempo of the rhythm; auto estimates it.",
            "from MIDI, its tag or name",
            read=number("bpm", words=("auto",), example=120),
        ),
    )
    start_s: float = field(
        default=0.0,
        metadata=option("SECONDS", "Where in the rhythm to begin.", "0", name="start", read=number("s")),
    )
    classes: tuple[str, ...] = field(  # none: all
        default=(),
        metadata=option("KD,SD", "Redrum only these; the source's other stems play on.", "all", read=classes),
    )
    gain_db: Mapping[str, float] = field(  # by class
        default_factory=dict,
        metadata=option(
            "CLASS=DB",
            "Louder or softer, such as HH=-6; may be repeated.",
            name="gain",
            kind=list[str],
            read=by_class("DB", "HH=-6", "db"),
        ),
    )
    sensitivity: Mapping[str, float] = field(  # by class; what is not named is detected as usual
        default_factory=dict,
        metadata=option(
            "CLASS=-1..1",
            "Detect fewer (below 0) or more strokes of a class, such as SD=-0.5; may be repeated.",
            kind=list[str],
            read=by_class("-1..1", "SD=-0.5"),
        ),
    )
    missing: Literal["nearest", "leave-out", "borrow"] = field(
        default="nearest",
        metadata=option(
            "nearest|leave-out|borrow",
            "A drum that the source never plays: played by the nearest, left out, or lent by a shipped kit.",
            "nearest",
            read=word_of,
        ),
    )
    kit_from: tuple[str, ...] = field(  # recordings and folders of one-shots
        default=(),
        metadata=option(
            "AUDIO|FOLDER",
            "Also play hits of this recording, or these one-shots, of the same kit; may be repeated.",
            False,
            kind=list[str],
            read=lambda name, texts: tuple(texts),
        ),
    )
    tune_toms: bool = field(
        default=False,
        metadata=option(
            "on|off",
            "Tune a source's only tom by up to 3 semitones to play a rhythm's several.",
            "off",
            read=is_on,
        ),
    )
    mix: float = field(
        default=1.0,
        metadata=option(
            "0..1", "1: the result alone, 0: the source alone.", "1", read=number("%", example=0.7)
        ),
    )
    timing: float = field(
        default=1.0,
        metadata=option("0..1", "0: on the grid, 1: as played.", "1", read=number("%", example=0.7)),
    )
    velocity: Literal["source", "rhythm"] | float = field(
        default="rhythm",
        metadata=option(
            "rhythm|source|0..1",
            "Whose dynamics, or one velocity for all.",
            "rhythm",
            read=number("%", words=("rhythm", "source"), example=0.5),
        ),
    )
    balance: float = field(
        default=1.0,
        metadata=option(
            "0..1",
            "Whose levels the classes have among each other: 1 the source's, 0 the rhythm's.",
            "1",
            read=number("%", example=0.7),
        ),
    )
    tail: Literal["cut", "ring", "wrap"] = field(
        default="cut",
        metadata=option(
            "cut|ring|wrap", "Last hits: end with the result, ring on, or go round a loop.", "cut", read=word_of
        ),
    )
    seed: int = field(
        default=0,
        metadata=option(
            "N",
            "Another plays other hits of those that do as well; the same gives the same bytes.",
            "0",
            kind=int,
        ),
    )
    variation: float = field(  # of latents around their mean; 1: by their deviation
        default=0.0,
        metadata=option(
            "0..10",
            "How far the latent engine varies the colour of repeated strokes, slightly; not their level.",
            "0",
            read=number(),
        ),
    )
    attack: Literal["original", "none"] = field(  # of the latent engine's strokes: the source's, or generated
        default="original",
        metadata=option(
            "original|none",
            "Whether the source's own hits begin the latent engine's strokes.",
            "original",
            read=word_of,
        ),
    )

    separate_outputs: bool = False  # whether the take can be read class by class

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise SettingsError(f"there is no engine {self.engine!r}", hint=f"engines: {', '.join(ENGINES)}")
        self._check_length()
        if not (_is_between(self.start_s, 0.0, math.inf) and math.isfinite(self.start_s)):
            raise SettingsError(f"start is {self.start_s}", hint="give seconds within the rhythm, 0 or later")
        if self.align not in ("auto", "seconds", "beats"):
            raise SettingsError(f"align is {self.align!r}", hint="give auto, seconds or beats")
        if self.bpm is not None and not _is_between(self.bpm, 1.0, 1000.0):
            raise SettingsError(f"the tempo is {str(self.bpm).removesuffix('.0')}", hint="give 1 to 1000 BPM")
        if self.bpm is not None and self.align == "seconds":
            raise SettingsError(
                "--align seconds leaves the rhythm its own tempo, --bpm gives it another",
                hint="leave one of them out",
            )
        for name, bpm in (("source", self.source_bpm), ("rhythm", self.rhythm_bpm)):
            if bpm not in (None, "auto") and not _is_between(bpm, 1.0, 1000.0):
                raise SettingsError(f"the {name}'s tempo is {bpm}", hint="give 1 to 1000 BPM, or auto")
        for name, value, what in (
            ("mix", self.mix, "0 is the original alone, 1 the redrummed sound alone"),
            ("timing", self.timing, "0 is on the grid, 1 as played"),
            ("balance", self.balance, "0 is the rhythm's, 1 the source's"),
        ):
            if not _is_between(value, 0.0, 1.0):
                raise SettingsError(
                    f"{name} is {value}; it must lie between 0 and 1",
                    hint=f"{what}; 70 percent is 0.7, or 70%",
                )
        if self.velocity not in ("source", "rhythm") and not _is_between(self.velocity, 0.01, 1.0):
            raise SettingsError(f"velocity is {self.velocity}", hint="give source, rhythm, or 0.01 to 1")
        if self.missing not in ("nearest", "leave-out", "borrow"):
            raise SettingsError(f"missing is {self.missing!r}", hint="give nearest, leave-out or borrow")
        if self.tail not in ("cut", "ring", "wrap"):
            raise SettingsError(f"tail is {self.tail!r}", hint="give cut, ring or wrap")
        self._check_classes()
        if self.seed < 0:
            raise SettingsError(f"the seed is {self.seed}", hint="give 0 or more")
        if not _is_between(self.variation, 0.0, 10.0):
            raise SettingsError(f"the variation is {self.variation}", hint="give 0 (none) to 10")
        if self.attack not in ("original", "none"):
            raise SettingsError(f"attack is {self.attack!r}", hint="give original or none")
        if not isinstance(self.tune_toms, bool):
            raise SettingsError(f"tune_toms is {self.tune_toms!r}", hint="give true or false")
        self._check_engine()

    def _check_length(self) -> None:
        """Raise SettingsError for a length that is none."""
        n_bars = self.length_bars
        if self.length in ("source", "rhythm") or (n_bars is not None and 1 / 16 <= n_bars <= 10_000):
            return
        if not _is_between(self.length, 1e-3, 86_400.0):
            raise SettingsError(
                f"length is {self.length}",
                hint="give source, rhythm, bars as in 4bars, or seconds as in 8s (8.0 in Python)",
            )

    @property
    def length_bars(self) -> float | None:
        """How many of the rhythm's bars are requested; None where the length is no number of bars."""
        return bars_of(self.length) if isinstance(self.length, str) else None

    def _check_classes(self) -> None:
        from transform.events import CLASSES

        for drum_class in (*self.classes, *self.gain_db, *self.sensitivity):
            if drum_class not in CLASSES:
                raise SettingsError(f"{drum_class!r} is no drum class", hint=f"classes: {', '.join(CLASSES)}")
        for drum_class in self.classes:
            if self.classes.count(drum_class) > 1:
                raise SettingsError(f"{drum_class} is among the classes twice", hint="name each class once")
        for drum_class, gain in self.gain_db.items():
            if not _is_between(gain, -120.0, 24.0):
                raise SettingsError(f"the gain of {drum_class} is {gain} dB", hint="give -120 to 24")
        for drum_class, value in self.sensitivity.items():
            if not _is_between(value, -1.0, 1.0):
                raise SettingsError(
                    f"the sensitivity to {drum_class} is {value}",
                    hint="give -1 (only the surest strokes) to 1 (nearly all that could be one)",
                )

    def _check_engine(self) -> None:
        """Raise SettingsError for what only another engine has."""
        if self.variation and self.engine != "latent":
            raise SettingsError(
                f"the {self.engine} engine knows no variation", hint="leave it out, or take the latent engine"
            )
        if self.attack != "original" and self.engine != "latent":
            raise SettingsError(
                f"the {self.engine} engine plays nothing but the source's own attacks",
                hint="leave --attack out, or take the latent engine",
            )
        if self.kit_from and self.engine == "latent":
            raise SettingsError(
                "the latent engine knows the drums of the source alone",
                hint="leave --kit-from out, or take --engine resequence",
            )
        if self.missing == "borrow" and self.engine == "latent":
            raise SettingsError(
                "the latent engine borrows no drums",
                hint="give --missing nearest or leave-out, or take --engine resequence",
            )
        if self.separate_outputs and self.engine == "latent":
            raise SettingsError(
                "the latent engine plays all drums as one sound: it has no separate outputs",
                hint="leave --stems out, or take --engine resequence",
            )
        if self.tune_toms and self.engine == "latent":
            raise SettingsError(
                "the latent engine tunes no toms", hint="leave --tune-toms out, or take --engine resequence"
            )

    @property
    def retained(self) -> tuple[str, ...]:
        """The classes that the source goes on playing itself."""
        from transform.events import CLASSES

        return tuple(c for c in CLASSES if self.classes and c not in self.classes)

    @property
    def is_apart(self) -> bool:
        """Whether some classes have a gain of their own, or the source goes on playing them."""
        from transform.events import CLASSES

        return bool(self.retained) or len({self.gain_db.get(c, 0.0) for c in CLASSES}) > 1


def _is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high
