"""Lists of users from a store that `microrec export` fills: what a service that answers requests does.

    python dags/examples/serve_lists.py redis://127.0.0.1:6379/0 u000001 u000002

Copy it into your service; it needs the store's client (redis or psycopg), and nothing of microrec. All lists of an
answer are of one release, also while the next one is switched to. A user whom the release does not know gets the list
of the segment `__global__`; once the release has expired, there is no list at all.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SEGMENT = "__global__"
TRIES = 10
"""Switches that may come between a look at the pointer and the lists, one after the other."""

Items = list[dict[str, Any]]


class Answer(NamedTuple):
    """Lists of one release."""

    release: str | None
    """Its id; None if nothing is served."""
    lists: Mapping[str, Items]
    """By user, best first; nobody has one if nothing is served."""


class Lists(ABC):
    """A store of lists."""

    @abstractmethod
    def of(self, users: Sequence[str]) -> Answer:
        """Return the lists of some users, all of one release."""


class RedisLists(Lists):
    """Lists in Redis.

    Args:
        url: of the Redis.
        name: what its keys begin with.
    """

    def __init__(self, url: str, name: str = "microrec") -> None:
        """Open a client, to be kept for many requests."""
        import redis

        self._client: Any = redis.Redis.from_url(url, decode_responses=True)
        self._name = name
        self._generation: str | None = None

    def of(self, users: Sequence[str]) -> Answer:
        """Return the lists of some users, all of one release: pointer and lists are read in one transaction."""
        for _ in range(TRIES):
            keys = f"{self._name}:{self._generation}"
            pipeline = self._client.pipeline()
            pipeline.hmget(f"{self._name}:served", "generation", "release")
            pipeline.lrange(f"{keys}:segment:{SEGMENT}", 0, -1)
            for user in users:
                pipeline.lrange(f"{keys}:user:{user}", 0, -1)
            (generation, release), fallback, *lists = pipeline.execute()
            if generation is None:
                return Answer(None, {})
            if generation == self._generation:
                texts = zip(users, (each or fallback for each in lists), strict=True)
                return Answer(
                    release, {user: [json.loads(text) for text in each] for user, each in texts}
                )
            self._generation = generation
        raise TimeoutError(f"{TRIES} releases were switched to meanwhile")


class PostgresLists(Lists):
    """Lists in Postgres.

    Args:
        url: of the database.
        schema: of the view.
    """

    def __init__(self, url: str, schema: str = "microrec") -> None:
        """Connect, for many requests; each is a transaction of its own, read committed."""
        import psycopg

        self._connection: Any = psycopg.connect(url, autocommit=True)
        self._query = (
            f"SELECT kind, id, items, release FROM {schema}.lists"
            f" WHERE (kind = 'user' AND id = ANY(%s)) OR (kind = 'segment' AND id = '{SEGMENT}')"
        )

    def of(self, users: Sequence[str]) -> Answer:
        """Return the lists of some users, all of one release: they are read in one statement."""
        rows = self._connection.execute(self._query, [list(users)]).fetchall()
        if not rows:
            return Answer(None, {})
        lists = {(kind, each): items for kind, each, items, _ in rows}
        fallback = lists.get(("segment", SEGMENT), [])
        return Answer(rows[0][3], {user: lists.get(("user", user), fallback) for user in users})


def open_lists(url: str) -> Lists:
    """Return the lists in the store at an address."""
    return RedisLists(url) if url.startswith("redis") else PostgresLists(url)


if __name__ == "__main__":
    address, *asked = sys.argv[1:]
    json.dump(open_lists(address).of(asked)._asdict(), sys.stdout, indent=1)
