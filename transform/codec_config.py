"""The shape of the codec, and its two configurations: see `transform.codec`."""

from dataclasses import dataclass, field

from transform.errors import SettingsError
from transform.ranges import check_ranges

_PRODUCTS_OF_A_BLOCK = 8  # times the width squared: it widens by four, and back
_MOST_WORK = 300_000  # products a sample; `hires` has 37,000, `paper` 31,000


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The codec's shape; the defaults are `hires`."""

    n_bands: int = 16
    n_latents: int = 128
    encoder: str = "convnext"  # or "rave"
    strides: tuple[int, ...] = (4, 2, 2, 2)  # times `n_bands`: samples a latent frame
    widths: tuple[int, ...] = (64, 128, 192, 256, 384)  # channels before the first stride and after each
    n_blocks: tuple[int, ...] = (1, 1, 1, 1, 3)  # ConvNeXt blocks at each width
    generator: str = "convnext"  # or "rave"
    generator_widths: tuple[int, ...] = (512, 256)  # at the latent rate and at the head's
    generator_blocks: tuple[int, ...] = (2, 7)
    head: str = "istft"  # of a "convnext" generator, at a hop of `head_hop`; "rave" of a "rave" generator
    head_hop: int = 128
    # From here on an "istft" head makes magnitudes alone, phases are those of noise; 0: it makes all phases.
    # An encoder fits generators with any: configurations that differ in nothing else are equal.
    noise_from_hz: float = field(default=0.0, compare=False)
    # From here up to there it says of each bin how much of its power has a phase; 0: all of it.
    mixed_from_hz: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        check_ranges(
            self,
            n_bands=(2, 64),
            n_latents=(1, 1024),
            strides=(2, 16),
            widths=(1, 2**16),
            n_blocks=(1, 64),
            generator_widths=(1, 2**16),
            generator_blocks=(1, 64),
            head_hop=(16, 4096),
            hop=(64, 2**14),
            noise_from_hz=(0, 20_000),
            mixed_from_hz=(0, 20_000),
        )
        choices = {
            "encoder": ("convnext", "rave"),
            "generator": ("convnext", "rave"),
            "head": ("istft", "rave"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"there is no {name} {getattr(self, name)!r}", hint=f"there are {', '.join(known)}"
                )
        if self.generator == "convnext" and self.head != "istft":
            raise SettingsError(f"a ConvNeXt generator has no {self.head} head", hint="its head is istft")
        if self.noise_from_hz and self.head != "istft":
            raise SettingsError(f"a {self.head} head has no noise_from_hz", hint="leave it at 0")
        if self.mixed_from_hz and not self.mixed_from_hz < self.noise_from_hz:
            raise SettingsError(
                f"mixed_from_hz is {self.mixed_from_hz:g}, and not below noise_from_hz",
                hint="sound is mixed up to where it is noise",
            )
        if len(self.widths) != len(self.strides) + 1 or len(self.n_blocks) != len(self.widths):
            raise SettingsError("a codec has a width and a number of blocks before its strides and after each")
        if any(stride % 2 for stride in self.strides):
            raise SettingsError(f"the strides are {self.strides}; each must be even, or a frame is lost")
        if max(self._work()) > _MOST_WORK:
            raise SettingsError("a codec of these widths and blocks computes more than any that was trained")
        if self.hop % self.head_hop:
            raise SettingsError(f"a hop of {self.hop} is no multiple of the head's, {self.head_hop}")

    def _work(self) -> tuple[float, float]:
        """Return about how many products encoder and generator take for each sample.

        Weights of one value take no room in a file, so that their number bounds nothing.
        """
        frames, encoder = self.hop // self.n_bands, 0
        for width, n_blocks, stride in zip(self.widths, self.n_blocks, (*self.strides, 1), strict=True):
            encoder += frames * width**2 * _PRODUCTS_OF_A_BLOCK * n_blocks
            frames //= stride
        low, high = (
            width**2 * _PRODUCTS_OF_A_BLOCK * n
            for width, n in zip(self.generator_widths, self.generator_blocks, strict=True)
        )
        return encoder / self.hop, (low + high * self.hop / self.head_hop) / self.hop

    @property
    def first_noise_hz(self) -> float:
        """From where on there is noise in what the head makes; 0: there is none."""
        return self.mixed_from_hz or self.noise_from_hz

    @property
    def hop(self) -> int:
        """Samples a latent frame."""
        hop = self.n_bands
        for stride in self.strides:
            hop *= stride
        return hop


CONFIGURATIONS = {
    "hires": CodecConfig(),
    "paper": CodecConfig(
        encoder="rave",
        strides=(4, 4, 4, 2),
        widths=(64, 128, 256, 512, 1024),
        generator="rave",
        head="rave",
    ),
}
