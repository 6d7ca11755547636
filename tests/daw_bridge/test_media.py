"""Which places no project may make Redrum look at."""

from pathlib import Path

import pytest

from daw_bridge.media import is_on_other_share

HOME, SHARE = Path("/music/song.rpp"), Path("//nas/Audio/songs/song.rpp")


def test_a_share_that_is_not_the_projects_own(subtests):
    cases = [
        "\\\\evil\\share\\x.wav",
        "//evil/share/x.wav",
        "\\/evil\\share/x.wav",
        "///evil/share/x.wav",
        "//evil",
        "\\\\?\\UNC\\evil\\share\\x.wav",
        "\\\\?\\unc\\evil\\share\\x.wav",
        "\\\\.\\UNC\\evil\\share\\x.wav",
        "\\??\\UNC\\evil\\share\\x.wav",
        "\\\\.\\pipe\\x.wav",
        "\\\\?\\C:\\x.wav",
        "//nas/other/x.wav",
        "//nas.evil/audio/x.wav",
    ]
    for place in cases:
        for project in [HOME, SHARE]:
            with subtests.test(place=place, project=project):
                assert is_on_other_share(place, project)


def test_a_place_on_a_disk(subtests):
    cases = ["x.wav", "../x.wav", "/tmp/x.wav", "C:\\drums\\x.wav", "C:/x.wav", "a//b.wav", "\\x.wav", ""]
    for place in cases:
        with subtests.test(place=place):
            assert not is_on_other_share(place, HOME)
            assert not is_on_other_share(place, SHARE)


@pytest.mark.parametrize(
    "place", ["//nas/audio/x.wav", "\\\\NAS\\Audio\\songs\\x.wav", "\\\\?\\UNC\\nas\\audio\\x.wav"]
)
def test_the_share_that_the_project_lies_on(place):
    assert not is_on_other_share(place, SHARE)
    assert is_on_other_share(place, HOME)
