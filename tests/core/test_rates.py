"""Rates are sums over the days before, to the last digit, and nothing after a day's start is in them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.core import rates
from microrec.core.rates import KINDS, NAMES, Book, Counts, Shown, VideoFacts

VIDEOS = VideoFacts(
    author=np.array([0, 0, 1, -1]),
    duration=np.array([2, 3, 3, -1]),
    tag_starts=np.array([0, 1, 3, 3, 4]),
    tag=np.array([0, 0, 1, 1]),
)
"""Four videos: two of one author, one without; of one, two, no and one tags."""
HALF_LIFE = 2.0


def shown(*rows: tuple[int, int, int, int]) -> Shown:
    """User, video, surface and day."""
    return Shown(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


def counts(*rows: tuple[int, int, int, int, int, int]) -> Counts:
    """User, video, surface, day, viewings and positives."""
    return Counts(*np.array(rows, dtype=np.int64).reshape(-1, 6).T)


def book(entered: Counts, **changed: Any) -> Book:
    return Book(entered, **{"videos": VIDEOS, "half_life_days": HALF_LIFE, **changed})


def test_rates_of_a_tiny_log_equal_hand_computed() -> None:
    entered = counts((0, 0, 0, 1, 2, 1), (0, 1, 1, 3, 1, 1), (1, 0, 0, 3, 4, 0), (0, 0, 0, 4, 9, 9))
    found = book(entered).sums(shown((0, 0, 0, 4)))
    half = 0.5
    expected = {
        "all": [2 * half + 5, 1 * half + 1, 7, 2],
        "user": [2 * half + 1, 1 * half + 1, 3, 2],
        "video": [2 * half + 4, 1 * half, 6, 1],
        "author": [2 * half + 5, 1 * half + 1, 7, 2],  # of both videos
        "tag": [2 * half + 5, 1 * half + 1, 7, 2],  # video 1 has the tag too
        "surface": [2 * half + 4, 1 * half, 6, 1],
        "duration": [2 * half + 4, 1 * half, 6, 1],
        "user_surface": [2 * half, 1 * half, 2, 1],
        "user_duration": [2 * half, 1 * half, 2, 1],
        "user_author": [2 * half + 1, 1 * half + 1, 3, 2],
        "user_tag": [2 * half + 1, 1 * half + 1, 3, 2],
    }
    assert found.keys() == expected.keys()
    for kind, values in expected.items():
        np.testing.assert_allclose(found[kind], [values], err_msg=kind)


def test_rates_are_smoothed_towards_their_parents() -> None:
    entered = counts((0, 0, 0, 1, 2, 1), (1, 1, 1, 1, 3, 3))
    found = book(entered).sums(shown((0, 0, 0, 2), (7, 3, -1, 2)))
    values = dict(zip(NAMES, rates.features(found, prior=4.0).T, strict=True))
    everyone = (4 + 0.5) / (5 + 1)
    of_user = (1 + 4 * everyone) / (2 + 4)
    assert values["user"] == pytest.approx([of_user, everyone])
    assert values["user_surface"] == pytest.approx([(1 + 4 * of_user) / 6, everyone])
    assert values["user_shown"] == pytest.approx([np.log(3), 0])
    assert values["video_long"] == pytest.approx([(1 + 4 * everyone) / 6, everyone])


def test_rates_fade_by_the_half_life_and_long_ones_do_not() -> None:
    found = book(counts((0, 0, 0, 1, 8, 4)), half_life_days=2.0).sums(
        shown(*((0, 0, 0, day) for day in (1, 2, 4, 6)))
    )
    expected = [[0, 0, 0, 0], [8, 4, 8, 4], [4, 2, 8, 4], [2, 1, 8, 4]]
    np.testing.assert_allclose(found["video"], expected)


def test_rates_of_a_video_of_several_tags_are_of_all_of_them() -> None:
    entered = counts((0, 0, 0, 1, 5, 1), (0, 3, 0, 1, 7, 2))
    found = book(entered).sums(shown((0, 1, 0, 2), (0, 2, 0, 2)))
    assert found["tag"].tolist() == [[12, 3, 12, 3], [0, 0, 0, 0]]


def test_rates_of_what_is_not_known_are_of_nobody() -> None:
    """No author is not an author: two videos without one have nothing in common."""
    entered = counts((0, 3, -1, 1, 5, 1))
    found = book(entered).sums(shown((0, 3, -1, 2)))
    for kind in ("author", "duration", "surface", "user_author", "user_surface"):
        assert not found[kind].any(), kind
    assert found["user"].any()


def test_rates_before_anybody_was_shown_anything() -> None:
    nothing = book(counts()).sums(shown((0, 0, 0, 5)))
    assert not any(values.any() for values in nothing.values())
    values = rates.features(nothing, prior=10.0)
    assert values.shape == (1, len(NAMES))
    assert set(np.unique(values)) == {0, np.float32(rates.UNKNOWN)}
    assert len(book(counts()).sums(shown())["user"]) == 0


def test_duration_buckets_have_their_lower_edge() -> None:
    lengths = np.array([0, 1, 6_999, 7_000, 300_000])
    assert rates.duration_bucket(lengths).tolist() == [-1, 0, 0, 1, 10]


# --- Against a loop, and against what comes later -------------------------------------------------------

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 3), st.integers(-1, 1), st.integers(3, 9), st.integers(1, 4)
    ),
    max_size=25,
)  # fmt: skip
PAIRS = shown(
    *(
        (user, video, surface, 6)
        for user in range(3)
        for video in range(4)
        for surface in (-1, 0, 1)
    )
)


def of_rows(rows: list[tuple[int, ...]]) -> Counts:
    return counts(*((*row[:4], row[4], row[4] // 2) for row in rows))


def keys(kind: str, user: int, video: int, surface: int) -> list[tuple[int, ...]]:
    """Keys of a pair, by the words of `KINDS`."""
    tags = VIDEOS.tag[VIDEOS.tag_starts[video] : VIDEOS.tag_starts[video + 1]].tolist()
    found: list[tuple[int, ...]] = [()]
    for part in KINDS[kind][0]:
        values = {
            "user": [user], "video": [video], "surface": [surface], "tag": tags,
            "author": [int(VIDEOS.author[video])], "duration": [int(VIDEOS.duration[video])],
        }[part]  # fmt: skip
        found = [(*key, value) for key in found for value in values if value >= 0]
    return found


@given(ROWS)
def test_rates_equal_a_loop_over_all_rows(rows: list[tuple[int, ...]]) -> None:
    found = book(of_rows(rows)).sums(PAIRS)
    for kind in KINDS:
        for place in range(0, len(PAIRS), 5):
            pair = [int(column[place]) for column in vars(PAIRS).values()]
            expected = np.zeros(4)
            for key in keys(kind, *pair[:3]):
                for user, video, surface, day, n in rows:
                    if day < pair[3] and key in keys(kind, user, video, surface):
                        fade = 0.5 ** ((pair[3] - 1 - day) / HALF_LIFE)
                        expected += [n * fade, n // 2 * fade, n, n // 2]
            np.testing.assert_allclose(found[kind][place], expected, atol=1e-12)


@given(ROWS, ROWS)
def test_rates_do_not_change_by_what_comes_at_or_after_the_cut(
    rows: list[tuple[int, ...]], others: list[tuple[int, ...]]
) -> None:
    """Whatever happens from day 6 on, and whether or not anything does."""
    before = [row for row in rows if row[3] < 6]
    known = book(of_rows(before)).sums(PAIRS)
    for later in (rows, [*before, *(row for row in others if row[3] >= 6)]):
        changed = book(of_rows(later)).sums(PAIRS)
        for kind in KINDS:
            np.testing.assert_array_equal(known[kind], changed[kind])


@given(ROWS, st.randoms())
def test_rates_are_the_same_in_any_order_of_rows(rows: list[tuple[int, ...]], random: Any) -> None:
    whole = of_rows(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    other = whole.taken(np.array(order, dtype=np.int64))
    for kind, values in book(whole).sums(PAIRS).items():
        np.testing.assert_array_equal(values, book(other).sums(PAIRS)[kind])


@given(ROWS)
def test_rates_of_a_day_added_to_those_of_the_day_before_equal_those_of_the_whole_window(
    rows: list[tuple[int, ...]],
) -> None:
    whole = book(of_rows(rows))
    step_by_step = [
        {kind: values.copy() for kind, values in totals.of(PAIRS).items()}
        for totals in whole.starts(np.arange(3, 11))
    ]
    for day, found in zip(range(3, 11), step_by_step, strict=True):
        alone = whole.as_of(day).of(PAIRS)
        dated = whole.sums(replace(PAIRS, day=np.full(len(PAIRS), day)))
        for kind in KINDS:
            np.testing.assert_array_equal(found[kind], alone[kind])
            np.testing.assert_array_equal(found[kind], dated[kind])


def test_rates_go_through_the_window_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day's rows are added once, however many days ask."""
    added: list[int] = []
    whole = book(of_rows([(0, 0, 0, day, 1) for day in range(3, 10)]))
    add = whole._add
    monkeypatch.setattr(whole, "_add", lambda values, day: (added.append(day), add(values, day)))
    whole.sums(shown(*((0, 0, 0, day) for day in range(3, 10) for _ in range(4))))
    assert added == sorted(set(added)) == list(range(3, 10))
