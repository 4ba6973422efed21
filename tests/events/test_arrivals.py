"""Which arrival days a night validates, and which it reads."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.errors import LandingError
from microrec.events.arrivals import Arrivals, MadeOf, plan
from tests.worlds.event_lines import MONDAY, later

NIGHT = {"window_days": 4, "lateness_days": 2}


def run(first: int, last: int) -> list[dt.date]:
    return [later(n) for n in range(first, last + 1)]


def test_plan_first_night_validates_its_window_and_reads_earlier_days() -> None:
    found = plan(MONDAY, landed=run(-9, 1), committed=[], **NIGHT)
    assert found == Arrivals(tuple(run(-3, 0)), tuple(run(-5, 0)))


def test_plan_later_night_validates_its_own_day() -> None:
    found = plan(MONDAY, landed=run(-9, 0), committed=run(-9, -1), **NIGHT)
    assert found == Arrivals((MONDAY,), tuple(run(-2, 0)))


def test_plan_night_again_validates_itself_and_what_was_left_out() -> None:
    found = plan(MONDAY, landed=run(-9, 0), committed=[*run(-9, -4), later(-2), MONDAY], **NIGHT)
    assert found.validated == (later(-3), later(-1), MONDAY)
    assert found.read == tuple(run(-5, 0))


def test_plan_days_before_the_first_landing_day_are_no_gap() -> None:
    found = plan(MONDAY, landed=run(-1, 0), committed=[], **NIGHT)
    assert found == Arrivals(tuple(run(-1, 0)), tuple(run(-1, 0)))


def test_plan_gap_names_every_missing_day() -> None:
    landed = [*run(-9, -4), later(-2), MONDAY]
    with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-02, 2026-01-04\]"):
        plan(MONDAY, landed=landed, committed=[], **NIGHT)


def test_plan_gap_before_the_window_matters_only_for_duplicates() -> None:
    landed = [*run(-9, -6), *run(-4, 0)]
    with pytest.raises(LandingError, match=r"\[2025-12-31\]"):
        plan(MONDAY, landed=landed, committed=[], **NIGHT)
    assert plan(MONDAY, landed=landed, committed=run(-3, -1), **NIGHT).validated == (MONDAY,)


def test_plan_without_the_nights_own_day_is_refused() -> None:
    with pytest.raises(LandingError, match=r"raw_interactions\[2026-01-05\]"):
        plan(MONDAY, landed=run(-3, -1), committed=[], **NIGHT)


@given(st.sets(st.integers(-9, 0)), st.integers(1, 6), st.integers(0, 4))
def test_plan_every_validated_day_is_read_with_its_lateness(
    committed: set[int], window: int, late: int
) -> None:
    found = plan(
        MONDAY,
        landed=run(-9, 0),
        committed=[later(n) for n in committed],
        window_days=window,
        lateness_days=late,
    )
    assert MONDAY in found.validated
    assert set(run(1 - window, 0)) <= {*found.validated, *map(later, committed)}
    for day in found.validated:
        assert {later(-n, day) for n in range(late + 1)} & set(run(-9, 0)) <= set(found.read)


MADE = MadeOf("UTC", "catalogue", {"2026-01-04": "a", "2026-01-05": "b"})


def test_made_of_word_is_read_back() -> None:
    assert MadeOf.of_word(MADE.word()) == MADE
    assert " " not in MADE.word()


@pytest.mark.parametrize("word", [None, "", "0123456789abcdef", '"text"', "[]", '{"videos": "a"}'])
def test_made_of_word_of_an_earlier_microrec_is_none(word: str | None) -> None:
    assert MadeOf.of_word(word) is None


@pytest.mark.parametrize(
    ("now", "outdated"),
    [
        (MADE, False),
        (replace(MADE, lines={**MADE.lines, "2026-01-05": "c"}), True),
        (replace(MADE, lines={**MADE.lines, "2026-01-04": "c"}), True),
        (replace(MADE, lines={**MADE.lines, "2026-01-03": "c"}), True),
        (replace(MADE, videos="a file came late"), True),
        (replace(MADE, lines={"2026-01-05": "b"}), False),
        (replace(MADE, lines={"2026-01-05": "c"}), False),
        (replace(MADE, lines={}), False),
    ],
)  # fmt: skip
def test_outdates_any_change_but_days_that_were_cleared_away(now: MadeOf, outdated: bool) -> None:
    assert now.outdates(MADE) is outdated


def test_outdates_events_of_unknown_making_stay() -> None:
    assert not MADE.outdates(None)
