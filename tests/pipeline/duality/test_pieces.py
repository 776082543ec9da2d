"""Pieces give the same results in parallel as one after the other; finished ones are cached."""

from functools import partial

import pytest

from pipeline.duality.pieces import Piece, PieceCache
from pipeline.store.files import Folder


def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


def pieces(*numbers: int) -> list[Piece]:
    return [Piece(f"piece-{n}", n, partial(double, n)) for n in numbers]


@pytest.mark.parametrize("processes", [1, 2])
def test_pieces_come_in_order_and_are_computed_once(tmp_path, processes: int):
    said: list[str] = []
    cache = PieceCache(Folder(str(tmp_path)), processes, said.append)
    assert cache.compute_all(pieces(3, 1)) == [6, 2]
    assert cache.compute_all(pieces(1, 2, 3)) == [2, 4, 6]
    assert [line.split(":")[0].strip() for line in said if "reused" in line] == [
        "piece-1",
        "piece-3",
    ]


def test_a_piece_with_other_inputs_is_computed_again(tmp_path):
    said: list[str] = []
    cache = PieceCache(Folder(str(tmp_path)), 1, said.append)
    cache.compute_all([Piece("piece", "mine", partial(double, 1))])
    assert cache.compute_all([Piece("piece", "other", partial(double, 5))]) == [10]
    assert not any("reused" in line for line in said)


@pytest.mark.parametrize("damaged", [b"", b"\x80\x00\xff" * 9, b"[1, 2]", "cut", "flipped"])
def test_a_damaged_piece_is_computed_again(tmp_path, damaged: bytes | str):
    cache = PieceCache(Folder(str(tmp_path)), 1, lambda _: None)
    cache.compute_all(pieces(3))
    (file,) = tmp_path.rglob("piece-3.pickle")
    whole = file.read_bytes()
    changed = {"cut": whole[:-3], "flipped": whole[:-3] + b"\x07" + whole[-2:]}
    file.write_bytes(damaged if isinstance(damaged, bytes) else changed[damaged])
    said: list[str] = []
    again = PieceCache(Folder(str(tmp_path)), 1, said.append)
    assert again.compute_all(pieces(3)) == [6]
    assert said[0].endswith("piece-3.pickle is damaged, computed again")
    assert file.read_bytes() != b""
    assert again.compute_all(pieces(3)) == [6]
    assert "reused" in said[-1]


def test_the_error_of_a_piece_is_raised_and_finished_ones_stay(tmp_path):
    cache = PieceCache(Folder(str(tmp_path)), 1, lambda _: None)
    with pytest.raises(ValueError, match="-1 is negative"):
        cache.compute_all(pieces(4, -1))
    said: list[str] = []
    again = PieceCache(Folder(str(tmp_path)), 2, said.append)
    with pytest.raises(ValueError, match="-1 is negative"):
        again.compute_all(pieces(4, -1, -1))
    assert said == ["  piece-4: reused from an earlier run (0 s)"]
