"""TOML by strangers: what anybody may write is read as ever, what never ends is refused at once."""

import tomllib

import pytest

from transform.presets import load_preset
from transform.toml import parse_toml, read_toml

# All kinds of strings, with dots, brackets and quotes in them, beside keys of several parts.
STRANGE = r'''
a.b . "c.d".'e' = """[x.y] ""quoted"" a.b.c = {1}"""
f = 'it\'
[g."h.i"]  # a comment = [1, {]
j = [1.5, 2e3, { k.l = 07:32:00.5 }, """x"""]
m = """""two quotes""""" # more
[[n]]
o = 0xff
'''


@pytest.mark.parametrize("text", ["", STRANGE, "a = 1\r\nb = 2\r\n"])
def test_what_anybody_writes_is_read_as_ever(tmp_path, text):
    (tmp_path / "x.toml").write_bytes(text.encode())
    assert read_toml(tmp_path / "x.toml") == parse_toml(text) == tomllib.loads(text)


def test_a_byte_order_mark_is_none_of_it(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_toml(tmp_path / "x.toml") == {"a": 1}


def test_the_shipped_preset_is_read_as_ever():
    path = load_preset("default").folder / "preset.toml"
    assert read_toml(path) == tomllib.loads(path.read_text(encoding="utf-8"))


def test_what_takes_endless_work_is_refused(subtests):
    cases = [
        ("a." * 20_000 + "b = 1", "keys have too many parts"),
        ('"a" . ' * 20_000 + "b = 1", "keys have too many parts"),
        ("x = {" + "a." * 20_000 + "b = 1}", "keys have too many parts"),
        ("".join("a." * 400 + f"k{i} = 1\n" for i in range(5000)), "keys have too many parts"),
        ("[" + "a." * 900 + "b]\n" + "".join(f"k{i} = 1\n" for i in range(200_000)), "too many parts"),
        ("a." * 100 + "b = 1", "deep in each other"),
        ("a = " + "[" * 100_000, "deep in each other"),
        ("a = " + "{a=" * 10_000, "deep in each other"),
        ("".join(f"k{i} = 1\n" for i in range(300_000)), "more than 250,000 entries"),
        ("".join(f"[t{i}]\n" for i in range(300_000)), "more than 250,000 entries"),
        ("a = [" + "1," * 300_000 + "]", "more than 250,000 entries"),
        ("a = 0x" + "f" * 100_000, "more than 64 bits"),
        ("a = [{b = 9223372036854775808}]", "more than 64 bits"),
        ("a = " + "9" * 5000, "digits"),
    ]
    for text, why in cases:
        with subtests.test(text=text, why=why), pytest.raises(ValueError, match=why):
            parse_toml(text)


def test_a_file_too_large_to_be_written_by_anybody_is_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"#" + b"x" * 5_000_000)
    with pytest.raises(ValueError, match="it has more than"):
        read_toml(tmp_path / "x.toml")
