"""What counts as quoting somebody: whole values and words, and numbers only where a text names them as people."""

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microrec.privacy.quotes import GONE, Ids

IDS = Ids(["u1", "17", "007", "a b:c", "x-1", "\U0001f600", " padded "])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user u1: 3 rows", "user [erased]: 3 rows"),
        ("u12 and xu1 and u1_", "u12 and xu1 and u1_"),
        ("17 rows of version 17", "17 rows of version 17"),
        ("user 17: 17 rows", "user [erased]: 17 rows"),
        ('{"user_id": 17, "watch_ms": 17}', '{"user_id": [erased], "watch_ms": 17}'),
        ("'17', user_id=17.5, user 2026-01-17", "'[erased]', user_id=17.5, user 2026-01-17"),
        ("author 007, not 7", "author [erased], not 7"),
        ("say a b:c!", "say [erased]!"),
        ("x-1 x-12", "[erased] x-12"),
        ("ha\U0001f600", f"ha{GONE}"),
        ("padded", GONE),
    ],
)
def test_ids_are_taken_out_of_texts(text: str, expected: str) -> None:
    assert IDS.taken_out(text) == expected
    assert IDS.quoted(pa.array([text, None, "nobody"])) == [text != expected, False, False]


def test_digits_of_raw_lines_count_anywhere_but_in_other_numbers() -> None:
    lines = pa.array(["17,v1,3", "a,b,170", "a,2026-01-17", "1.17"])
    assert IDS.quoted(lines, anywhere=True) == [True, False, False, False]
    assert not any(IDS.quoted(lines))


@pytest.mark.parametrize(
    ("each", "text", "expected"),
    [
        ("--", " ----", [(1, 3), (2, 4), (3, 5)]),
        ("a a", "a a a", [(0, 3), (2, 5)]),
    ],
)
def test_an_id_is_found_where_it_overlaps_itself(
    each: str, text: str, expected: list[tuple[int, int]]
) -> None:
    looked_for = Ids([each])
    assert sorted(looked_for.spans(text)) == expected
    assert looked_for.taken_out(text).startswith(f"{text[: expected[0][0]]}{GONE}")


ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(ids, texts, texts)
@example("''", "", "")
@example("a", "a", "a")
def test_an_id_in_quotes_is_found_whatever_it_is(each: str, before: str, after: str) -> None:
    looked_for = Ids([each])
    (wanted,) = looked_for.ids
    text = f"{before} '{wanted}' {after}"
    start = len(before) + 2
    assert (start, start + len(wanted)) in set(looked_for.spans(text))
    assert looked_for.quoted(pa.array([text])) == [True]
    assert looked_for.equal(pa.array([wanted, f"{wanted}x"])).to_pylist() == [True, False]


def test_bounds_of_a_log_are_known_as_far_as_they_go() -> None:
    long = "person-" + "9" * 60
    looked_for = Ids([long, "u1"])
    assert looked_for.bounds_hold("u1")
    assert looked_for.bounds_hold(long[:32])
    assert looked_for.bounds_hold(long[:32] + "\U0010ffff")
    assert not looked_for.bounds_hold(long[:31])
    assert looked_for.between("u0", "u2")
    assert not looked_for.between("u2", "u3")
