"""What is Redis' own: times to live, lists that were evicted, and two exports at a time."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest

from microrec.errors import CommitConflict
from microrec.export import handoff
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.export.stores import RedisStore, opened
from tests.export.test_handoff import DAY, NOW, UNTIL, USERS, export, release

pytestmark = [pytest.mark.stores, pytest.mark.heavy]


@pytest.fixture
def store(redis_url: str, place: Path) -> RedisStore:
    store = RedisStore(redis_url)
    store.clear()
    release(Warehouse.open(), DAY, USERS, "a")
    return store


def keys_of(store: RedisStore) -> list[str]:
    keys: list[str] = store.client.keys("microrec:*")
    return keys


def test_every_key_expires_with_the_release_and_again_when_renewed(store: RedisStore) -> None:
    export(store)
    for _ in range(2):
        assert {store.client.expiretime(key) for key in keys_of(store)} == {UNTIL.timestamp()}
        for key in keys_of(store):
            store.client.persist(key)
        assert export(store).action == "renewed"


def test_nothing_is_served_once_the_release_has_expired(store: RedisStore) -> None:
    until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)
    release(Warehouse.open(), DAY, USERS, "a", until=until)
    export(store)
    assert store.lists()
    time.sleep(2)
    assert keys_of(store) == []


def test_lists_that_redis_has_dropped_are_written_again(store: RedisStore) -> None:
    export(store)
    before = store.lists()
    store.client.delete(next(key for key in keys_of(store) if key.endswith(":user:u1")))
    assert export(store).action == "exported"
    assert store.lists() == before


def test_export_that_stood_still_too_long_does_not_switch(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(store)
    before = store.release()
    release(Warehouse.open(), DAY, USERS[:1], "b")
    late: Any = opened(store.address)
    staged = late.stage

    def another_begins(*words: Any) -> Any:
        n_lists = staged(*words)
        store.client.set("microrec:lock", "another")
        return n_lists

    monkeypatch.setattr(late, "stage", another_begins)
    with pytest.raises(CommitConflict, match="stood still"):
        handoff.export(late, reader.latest, at=NOW)
    assert store.release() == before
    assert store.client.get("microrec:lock") == "another"


def test_export_beside_another_one_waits_and_then_gives_up(store: RedisStore) -> None:
    store.client.set("microrec:lock", "another")
    with pytest.raises(CommitConflict, match="at work"):
        export(store)
    store.client.pexpire("microrec:lock", 300)
    assert export(store).action == "exported"


def test_keys_of_others_stay(store: RedisStore) -> None:
    others = ["other:1:user:u1", "microrec2:1:user:u1", "microrec"]
    for key in others:
        store.client.set(key, "theirs")
    export(store)
    assert [store.client.get(key) for key in others] == ["theirs"] * 3
