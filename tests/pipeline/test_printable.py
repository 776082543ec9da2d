"""Text of others on a terminal."""

from pipeline.printable import listed, shown, visible, visible_lines

FORGED = "a\x1b[2J\r\x07\n\tb\x9b\u202e\u2028\ud800é😀"


def test_control_characters_are_escapes_and_all_else_is_as_it_was():
    assert visible(FORGED) == r"a\x1b[2J\r\x07\n\tb\x9b\u202e\u2028\ud800é😀"
    assert visible_lines(FORGED) == "a\\x1b[2J\\r\\x07\n\tb\\x9b\\u202e\\u2028\\ud800é😀"


def test_long_names_and_long_lists_are_cut():
    assert shown("9" * 5000) == f"'{'9' * 60}...'"
    assert shown("a\nb") == r"'a\nb'"
    assert listed(map(str, range(25))).endswith("18, 19 and 5 more")
