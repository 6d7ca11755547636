"""Names of a batch's results: --name is parsed, and gives names that every system has."""

from pathlib import Path

import pytest

from daw_bridge.plan import PlanSettings
from transform.errors import SettingsError

VALUES = {"stem": "loop", "rhythm": "beat", "preset": "default", "seed": 7}


def named(template, **values):
    return PlanSettings(out=Path("out"), name=template).name_of(VALUES | values)


def test_what_a_template_gives(subtests):
    cases = [
        ("{stem}_{rhythm}", "loop_beat"),
        ("{preset} {seed}", "default 7"),
        ("{seed:03}", "007"),
        ("{seed:03d}-{seed:09}", "007-000000007"),
        ("{{{stem}}}", "{loop}"),
        ("Trommel für {stem}", "Trommel für loop"),
        ("console", "console"),
        ("-", "-"),
        ("a" * 251, "a" * 251),
    ]
    for template, name in cases:
        with subtests.test(template=template, name=name):
            assert named(template) == name


def test_a_seed_keeps_all_its_digits():
    assert named("{seed:02}", seed=12345) == "12345"


def test_a_template_that_gives_no_name(subtests):
    cases = [
        *(
            "{stem.__class__}",
            "{stem[0]}",
            "{stem!r}",
            "{stem!x}",
            "{stem:{rhythm.__class__}}",
            "{stem:{stem}}",
        ),
        *(
            "{seed:099999999999}",
            "{seed:010}",
            "{seed:0300d}",
            "{seed:3}",
            "{seed:+03}",
            "{seed:s}",
            "{stem:03}",
        ),
        *("{stem:>300}", "{stem:.0}", "{0}", "{}", "{ stem }", "{stem", "stem}", "{{stem}", "{colour}"),
        *("", " ", ".", "..", "{stem}.", "{stem} ", "a/b", "a\\b", "~/x", "C:x", "{stem}:x", "a*", "a?", 'a"'),
        *("a\nb", "\x1b]0;x\x07{stem}", "\x9b{stem}", "\x7f", "a<b", "a|b"),
    ]
    for template in cases:
        with subtests.test(template=template):
            with pytest.raises(SettingsError, match="--name") as caught:
                named(template)
            assert "{seed:03}" in caught.value.hint


def test_a_device_of_windows(subtests):
    for name in ["con", "NUL", "Aux.take", "lpt1", "com¹", "prn .x", "CONIN$"]:
        with subtests.test(name=name):
            with pytest.raises(SettingsError, match="is a device to Windows"):
                named(name)
            with pytest.raises(SettingsError, match="is a device to Windows"):
                named("{stem}", stem=name)


@pytest.mark.parametrize(
    ("template", "stem"), [("a" * 252, ""), ("{stem}", "鼓" * 84), ("{stem}" * 9, "b" * 29)]
)
def test_a_name_that_is_too_long(template, stem):
    with pytest.raises(SettingsError, match="bytes") as caught:
        named(template, stem=stem)
    assert "255" in caught.value.hint


def test_what_a_recording_is_called_may_stay():
    # Its own system has the name: a folder with it must not stop a batch.
    assert named("{stem}_x", stem="12:30 *take*.") == "12:30 *take*._x"
