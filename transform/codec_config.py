"""The shape of the codec, and its two configurations: see `transform.codec`."""

from dataclasses import dataclass

from transform.errors import SettingsError
from transform.ranges import check_ranges


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

    def __post_init__(self) -> None:
        check_ranges(
            self,
            n_bands=(2, 64),
            n_latents=(1, 1024),
            strides=(1, 16),
            widths=(1, 2**16),
            n_blocks=(1, 64),
            generator_widths=(1, 2**16),
            generator_blocks=(1, 64),
            head_hop=(16, 4096),
            hop=(64, 2**14),
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
        if len(self.widths) != len(self.strides) + 1 or len(self.n_blocks) != len(self.widths):
            raise SettingsError("a codec has a width and a number of blocks before its strides and after each")
        if self.hop % self.head_hop:
            raise SettingsError(f"a hop of {self.hop} is no multiple of the head's, {self.head_hop}")

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
