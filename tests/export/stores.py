"""Stores as a consumer finds them, read without the code that wrote them."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from microrec.export import stores
from microrec.export.redis import Redis
from microrec.export.target import Target

Lists = dict[tuple[str, str], list[dict[str, Any]]]
"""Items by kind and id."""
LOCK_SECONDS = 3.0


def opened(address: str) -> Target:
    """The store as `microrec export` opens it; a Redis whose lock of a killed export goes after a few seconds."""
    if address.startswith("redis:"):
        return Redis(address, "microrec", lock_seconds=LOCK_SECONDS)
    return stores.open_store(address)


class Store(ABC):
    """A store, and what it serves."""

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def lists(self) -> Lists:
        """What a consumer is served."""

    @abstractmethod
    def release(self) -> str | None:
        """The id of the release that a consumer is told."""

    @abstractmethod
    def copies(self) -> int:
        """How many copies of lists lie there, whether served or not."""

    @abstractmethod
    def clear(self) -> None:
        """Empty the store of an earlier test."""


class Folder(Store):
    @property
    def folder(self) -> Path:
        return Path(self.address.partition(":")[2])

    def lists(self) -> Lists:
        served = self.folder / "served"
        if self.address.startswith("parquet"):
            rows = pq.read_table(served / "lists.parquet").to_pylist()
        else:
            lines = (served / "lists.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
        return {
            (row["kind"], row["id"]): [
                {name: value for name, value in item.items() if value is not None}
                for item in row["items"]
            ]
            for row in rows
        }

    def release(self) -> str | None:
        about = self.folder / "served" / "release.json"
        return json.loads(about.read_text())["release"] if about.exists() else None

    def copies(self) -> int:
        return len(list((self.folder / "generations").iterdir()))

    def clear(self) -> None:
        assert not self.folder.exists()


class RedisStore(Store):
    @property
    def client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.address, decode_responses=True)

    def lists(self) -> Lists:
        client = self.client
        start = f"microrec:{client.hget('microrec:served', 'generation')}:"
        found = {}
        for key in client.keys(f"{start}*"):
            kind, _, each = key.removeprefix(start).partition(":")
            found[kind, each] = [json.loads(text) for text in client.lrange(key, 0, -1)]
        return found

    def release(self) -> str | None:
        return self.client.hget("microrec:served", "release")

    def copies(self) -> int:
        return len({key.split(":")[1] for key in self.client.keys("microrec:*:*:*")})

    def clear(self) -> None:
        self.client.flushdb()


class PostgresStore(Store):
    def query(self, query: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.address) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def lists(self) -> Lists:
        rows = self.query("SELECT kind, id, items FROM microrec.lists")
        return {(kind, each): items for kind, each, items in rows}

    def release(self) -> str | None:
        rows = self.query("SELECT DISTINCT release FROM microrec.lists")
        return rows[0][0] if rows else None

    def copies(self) -> int:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'microrec' AND tablename LIKE 'lists%'"
        return int(self.query(query)[0][0])

    def clear(self) -> None:
        import psycopg

        with psycopg.connect(self.address) as connection:
            connection.execute("DROP SCHEMA IF EXISTS microrec CASCADE")
