"""What a terminal is shown can give it no command."""

import io

import pytest

from transform.terminal import guarded, one_line, printable, unguarded


def test_what_a_terminal_would_obey_is_written_out(subtests):
    cases = [
        ("plain, with a tab\tand two\nlines", "plain, with a tab\tand two\nlines"),
        ("Trommel für Łódź, ドラム, 鼓, 🥁, 👩‍🎤, नमस्ते", "Trommel für Łódź, ドラム, 鼓, 🥁, 👩‍🎤, नमस्ते"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J\r\b\x00\x7f", "\\x1b[2J\\x0d\\x08\\x00\\x7f"),
        (
            "\x9b2J\x9d0;title\x9c\x85",
            "\\x9b2J\\x9d0;title\\x9c\\x85",
        ),  # C1: ESC and what follows, in one
        ("a\u202evaw.b\u2066\u200f\u061c", "a\\u202evaw.b\\u2066\\u200f\\u061c"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("a\udcfc\udc9b.wav", "a\\xfc\\x9b.wav"),  # bytes of a name that is no UTF-8
        ("a\ud83d.wav", "a\\ud83d.wav"),  # half a pair, which Windows lets names have
    ]
    for text, shown in cases:
        with subtests.test(text=text, shown=shown):
            assert printable(text) == shown
            assert printable(shown) == shown


def test_a_name_begins_no_line():
    assert one_line("a.wav\nredrum: all is well\x1b") == "a.wav\\x0aredrum: all is well\\x1b"


def test_a_guarded_stream_is_a_stream():
    behind = io.StringIO()
    stream = guarded(behind)
    print("a\x1bb", "c", file=stream)
    stream.writelines(["d\x9b\n", "e\n"])
    assert stream.write("\x1b") == 1
    assert behind.getvalue() == "a\\x1bb c\nd\\x9b\ne\n\\x1b"
    assert guarded(stream) is stream
    assert unguarded(stream) is behind
    assert unguarded(behind) is behind


def test_there_is_no_way_around_a_guard():
    stream = guarded(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert stream.buffer is None  # Typer writes to it on Windows, and where it doubts the encoding
    with pytest.raises(TypeError):
        stream.write(b"\x1b")


def test_a_console_without_a_character_shows_its_number():
    bytes_ = io.BytesIO()
    stream = guarded(io.TextIOWrapper(bytes_, encoding="cp1252"))
    stream.write("ü 鼓")
    stream.flush()
    assert bytes_.getvalue() == b"\xfc \\u9f13"
