from dataclasses import dataclass

import numpy as np
import pytest

from microrec.core.array_types import Int64s
from microrec.core.rows import Rows


@dataclass(frozen=True, eq=False)
class Marks(Rows):
    pupil: Int64s
    mark: Int64s


def pairs(rows: Marks) -> list[tuple[int, int]]:
    return list(zip(rows.pupil.tolist(), rows.mark.tolist(), strict=True))


@pytest.fixture
def rows() -> Marks:
    return Marks(pupil=np.array([7, 8, 9]), mark=np.array([1, 2, 3]))


def test_rows_have_the_length_of_their_columns(rows: Marks) -> None:
    assert len(rows) == 3
    assert len(rows.taken(slice(0))) == 0


def test_taken_with_a_mask_keeps_the_order(rows: Marks) -> None:
    assert pairs(rows.taken(np.array([True, False, True]))) == [(7, 1), (9, 3)]


def test_taken_with_positions_takes_theirs(rows: Marks) -> None:
    assert pairs(rows.taken(np.array([2, 0, 2]))) == [(9, 3), (7, 1), (9, 3)]


def test_taken_with_a_slice_is_of_the_same_class(rows: Marks) -> None:
    last = rows.taken(slice(1, None))
    assert type(last) is Marks
    assert pairs(last) == [(8, 2), (9, 3)]
