import pytest

from training.data.split import (
    recording_family,
    split_of_kit,
    split_of_loop,
    split_of_rhythm,
    was_tested_in_0_1_0,
)


def test_side_of_a_kit(subtests):
    cases = [
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
        # The second delivery: what is freely licensed trains, the rest judges.
        ("gogodze-close", "A", "train"),
        ("virtuosity-jazz", "A", "train"),
        ("hat-phat", "A", "train"),
        ("osdk", "B", "validate"),
        ("discord-gm", "B", "validate"),
        ("salamander", "B", "test"),
        ("tchackpoum-ludwig-overhead", "B", "test"),
        ("becks-ludwig", "B", "test"),
        # Procedural kits are tier A: one family a side, the others are left to the endless drums.
        ("synth-metal-2", "A", "validate"),
        ("synth-fm-1", "A", "test"),
        ("synth-noise-1", "A", "unused"),
        # What nobody knows is never trained on unless its licence allows it.
        ("someones-own", "A", "train"),
        ("someones-own", "B", "unused"),
        ("someones-own", "", "unused"),
    ]
    for kit, tier, side in cases:
        with subtests.test(kit=kit, tier=tier, side=side):
            assert split_of_kit(kit, tier) == side


@pytest.mark.parametrize("tier", ["A", "B"])
def test_a_family_is_never_divided(tier):
    for family in (
        *("avl-", "h2-", "dsyn-", "timgm-", "lmms-", "millo-", "synth-fm-", "synth-metal-", "gogodze-"),
        *("virtuosity-", "tchackpoum-", "muldjord-", "frankensnare-14a-"),
    ):
        sides = {split_of_kit(family + name, tier) for name in ("1", "2", "jazz", "acoustic", "x-y")}
        assert len(sides) == 1, family


def test_kits_that_share_recordings_are_one_family_on_one_side(subtests):
    cases = [
        (
            "tr808-fischer boochi-808 mercury-808 fluidr3-tr808 h2-tr808emu dsyn-tr808 freepats-drum000",
            {"test"},
        ),
        ("avl-black-pearl avl-red-zeppelin h2-black-pearl h2-gmrock", {"test"}),
        ("timgm-standard timgm-tr808 lmms-acoustic", {"validate"}),
        ("tchackpoum-ludwig-close tchackpoum-ludwig-overhead", {"test"}),
        ("gogodze-close gogodze-room", {"train"}),
        ("virtuosity-jazz virtuosity-funk", {"train"}),
        ("muldjord-close muldjord-room", {"train"}),
    ]
    for kits, sides in cases:
        with subtests.test(kits=kits, sides=sides):
            names = kits.split()
            assert len({recording_family(name) for name in names}) == 1
            tier = "A" if sides == {"train"} else "B"
            assert {split_of_kit(name, tier) for name in names} == sides


def test_copies_of_a_machine_do_not_train_whatever_their_licence():
    assert split_of_kit("tr808-fischer", "A") == split_of_kit("fluidr3-tr808", "A") == "test"
    assert split_of_kit("fluidr3-power", "A") == "train"


def test_instruments_of_their_own_share_nothing():
    names = ["osdk", "discord-gm", "salamander", "becks-ludwig", "millo-1", "tchackpoum-x", "timgm-x", "avl-x"]
    assert len({recording_family(name) for name in names}) == len(names)


def test_the_test_side_of_0_1_0_is_known():
    assert all(was_tested_in_0_1_0(k) for k in ("avl-black-pearl", "h2-tr808emu", "dsyn-mix-01", "synth-fm-1"))
    assert not any(was_tested_in_0_1_0(kit) for kit in ("salamander", "tr808-fischer", "millo-1", "muldjord-1"))


def test_drummers_are_whole_and_styles_of_tier_b_halved(subtests):
    cases = [
        ("drummer1", "A", {"train"}),
        ("drummer7", "A", {"train"}),
        ("drummer2", "A", {"validate"}),
        ("drummer4", "A", {"validate"}),
        ("drummer9", "A", {"test"}),
        ("", "B", {"validate", "test"}),
    ]
    for performer, tier, sides in cases:
        with subtests.test(performer=performer, tier=tier, sides=sides):
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
