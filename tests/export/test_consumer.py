"""The example of a consumer: its answers are of one release each, also while releases are switched."""

import datetime as dt
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from dags.examples.serve_lists import Answer, open_lists
from microrec.export import handoff
from microrec.export.stores import open_store
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.export.stores import PostgresStore, RedisStore, Store
from tests.export.test_handoff import DAY, NEXT, NOW, UNTIL
from tests.worlds.releases import filled, publish, publish_tables

pytestmark = [pytest.mark.stores, pytest.mark.heavy]

USERS = [f"u{number}" for number in range(1000)]
GONE = "u0"
"""Has a list in the first release only."""
K = 5
SWITCHES = 6


@pytest.fixture(params=["redis", "postgres"])
def store(request: pytest.FixtureRequest, place: Path) -> Store:
    """An empty store; there are two releases, whose lists have no video in common."""
    kind = RedisStore if request.param == "redis" else PostgresStore
    store: Store = kind(request.getfixturevalue(f"{request.param}_url"))
    store.clear()
    for day, users, prefix in ((DAY, USERS, "a"), (NEXT, USERS[1:], "b")):
        release(day, users, prefix)
    return store


def release(day: dt.date, users: list[str], prefix: str) -> None:
    warehouse = Warehouse.open()
    places = range(1, K + 1)
    columns = {
        "user_id": [user for user in users for _ in places],
        "rank": [place for _ in users for place in places],
        "video_id": [f"{prefix}-{user}-{place}" for user in users for place in places],
    }
    everyones = {"segment": ["__global__"], "video_id": [f"{prefix}-everybody"]}
    of_segments = {
        "user_id": users,
        "segment": ["tag=x"] * len(users),
        "video_id": [f"{prefix}-{user}-tag" for user in users],
    }
    rows = {
        "recommendations": filled(warehouse, "recommendations", K * len(users), **columns),
        "segment_recommendations": filled(
            warehouse, "segment_recommendations", len(users), **of_segments
        ),
        "fallback_recommendations": filled(warehouse, "fallback_recommendations", 1, **everyones),
    }
    publish_tables(warehouse, day, rows, until=UNTIL)


def pinned(day: dt.date) -> dict[str, list[str]]:
    """Videos by user, as a consumer should be answered."""
    lists: dict[str, list[str]] = {}
    published = reader.of(day)
    rows = published.read("recommendations").sort_by(
        [("user_id", "ascending"), ("rank", "ascending")]
    )
    for row in rows.to_pylist():
        lists.setdefault(row["user_id"], []).append(row["video_id"])
    everybody = published.read("fallback_recommendations")["video_id"].to_pylist()
    return {user: lists.get(user, everybody) for user in USERS}


def videos(answer: Answer) -> dict[str, list[str]]:
    return {user: [item["video_id"] for item in items] for user, items in answer.lists.items()}


def test_answers_of_a_thousand_users_are_of_one_release_during_switches(store: Store) -> None:
    days = (DAY, NEXT)
    right = {reader.of(day).id: pinned(day) for day in days}
    handoff.export(open_store(store.address), lambda: reader.of(DAY), at=NOW)
    answers: list[Answer] = []
    ended = threading.Event()

    def ask() -> None:
        lists = open_lists(store.address)
        while not ended.is_set():
            answers.append(lists.of(USERS))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for number in range(1, SWITCHES + 1):
            handoff.export(
                open_store(store.address), lambda n=number: reader.of(days[n % 2]), at=NOW
            )
            # So that the release is asked for before it goes.
            wait_for(answers, reader.of(days[number % 2]).id)
    finally:
        ended.set()
        for thread in asking:
            thread.join()
    for answer in answers:
        assert answer.release in right
        assert videos(answer) == right[answer.release]
    seen = Counter(answer.release for answer in answers)
    assert all(seen[each] >= SWITCHES / 2 for each in right)


def wait_for(answers: list[Answer], release: str) -> None:
    deadline = time.monotonic() + 30
    first = len(answers)
    while not any(answer.release == release for answer in answers[first:]):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_user_who_is_not_in_the_release_gets_what_everybody_gets(store: Store) -> None:
    handoff.export(open_store(store.address), lambda: reader.of(NEXT), at=NOW)
    answer = open_lists(store.address).of([GONE, "u1"])
    assert videos(answer) == {
        GONE: ["b-everybody"],
        "u1": [f"b-u1-{place}" for place in range(1, K + 1)],
    }


def test_user_is_answered_by_segment(store: Store) -> None:
    """Their own list of it, else everybody's, else their list of everything."""
    handoff.export(open_store(store.address), lambda: reader.of(DAY), at=NOW)
    lists = open_lists(store.address)
    assert videos(lists.of(["u1", "u2"], segment="tag=x")) == {
        "u1": ["a-u1-tag"],
        "u2": ["a-u2-tag"],
    }
    assert videos(lists.of(["u1"], segment="__global__")) == {"u1": ["a-everybody"]}
    assert videos(lists.of(["u1"], segment="tag=none")) == {
        "u1": [f"a-u1-{place}" for place in range(1, K + 1)]
    }


def test_nobody_is_answered_before_the_first_release_and_after_the_last_has_expired(
    store: Store,
) -> None:
    if isinstance(store, RedisStore):
        assert open_lists(store.address).of(["u1"]) == (None, {})
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    publish(Warehouse.open(), NEXT, 1, until=until)
    handoff.export(open_store(store.address), reader.latest, at=NOW)
    assert open_lists(store.address).of(["u0"]).lists
    time.sleep(max(0.0, (until - dt.datetime.now(dt.UTC)).total_seconds()) + 0.2)
    assert open_lists(store.address).of(["u0"]) == (None, {})
