import pytest

from training.split import split_of_kit, split_of_loop, split_of_rhythm


@pytest.mark.parametrize(
    ("kit", "tier", "side"),
    [
        ("muldjord-1", "A", "train"),
        ("fluidr3-standard", "A", "train"),
        ("frankensnare-3", "A", "train"),
        ("millo-1", "B", "validate"),
        ("timgm-jazz", "B", "validate"),
        ("lmms-acoustic", "B", "validate"),
        ("electric-empire", "B", "validate"),
        ("avl-blonde", "B", "test"),
        ("h2-gmrock", "B", "test"),
        ("h2-black-pearl", "B", "test"),
        ("dsyn-r_n_b", "B", "test"),
        # Procedural kits are tier A: one family a side, the others are left to the endless drums.
        ("synth-metal-2", "A", "validate"),
        ("synth-fm-1", "A", "test"),
        ("synth-noise-1", "A", "unused"),
        # What nobody knows is never trained on unless its licence allows it.
        ("someones-own", "A", "train"),
        ("someones-own", "B", "unused"),
        ("someones-own", "", "unused"),
    ],
)
def test_side_of_a_kit(kit, tier, side):
    assert split_of_kit(kit, tier) == side


@pytest.mark.parametrize("tier", ["A", "B"])
def test_a_family_is_never_divided(tier):
    for family in ("avl-", "h2-", "dsyn-", "timgm-", "lmms-", "millo-", "synth-fm-", "synth-metal-"):
        sides = {split_of_kit(family + name, tier) for name in ("1", "2", "jazz", "acoustic", "x-y")}
        assert len(sides) == 1, family


@pytest.mark.parametrize(
    ("performer", "tier", "sides"),
    [
        ("drummer1", "A", {"train"}),
        ("drummer7", "A", {"train"}),
        ("drummer2", "A", {"validate"}),
        ("drummer4", "A", {"validate"}),
        ("drummer9", "A", {"test"}),
        ("", "B", {"validate", "test"}),
    ],
)
def test_drummers_are_whole_and_styles_of_tier_b_halved(performer, tier, sides):
    styles = [f"style{i}" for i in range(40)]
    assert {split_of_rhythm(performer=performer, style=s, tier=tier) for s in styles} == sides


def test_a_style_of_tier_b_is_on_one_side():
    for i in range(20):
        assert len({split_of_rhythm(performer="", style=f"s{i}", tier="B") for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("path", "tier", "side"),
    [
        ("loops/evr_lithium_01.flac", "A", "train"),
        ("loops/evr_rubidium_07.flac", "A", "test"),
        ("loops/evr_rubidium_07.flac", "B", "test"),
        ("loops/other.flac", "B", "unused"),
    ],
)
def test_side_of_a_loop(path, tier, side):
    assert split_of_loop(path, tier) == side
