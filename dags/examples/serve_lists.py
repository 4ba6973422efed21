"""Lists of users from a store that `microrec export` fills: what a service that answers requests does.

    python dags/examples/serve_lists.py redis://127.0.0.1:6379/0 u000001 u000002

Copy it into your service; it needs the store's client (redis or psycopg), and nothing of microrec. All lists of an
answer are of one release, also while the next one is switched to. A user whom the release does not know gets the list
of the segment `__global__`; once the release has expired, there is no list at all. `of(users, segment="surface=feed")`
asks for lists of one surface or tag: the user's own, else the one that everybody gets there, else their list of
everything.
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
    def of(self, users: Sequence[str], segment: str | None = None) -> Answer:
        """Return the lists of some users, all of one release.

        Args:
            users: user_id.
            segment: surface=<surface> or tag=<tag>; None for the lists of everything.
        """


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

    def of(self, users: Sequence[str], segment: str | None = None) -> Answer:
        """Return the lists of some users, all of one release: pointer and lists are read in one transaction."""
        for _ in range(TRIES):
            keys = f"{self._name}:{self._generation}"
            pipeline = self._client.pipeline()
            pipeline.hmget(f"{self._name}:served", "generation", "release")
            wanted = [("segment", SEGMENT), *_wanted(users, segment)]
            for kind, each in wanted:
                pipeline.lrange(f"{keys}:{kind}:{each}", 0, -1)
            (generation, release), *texts = pipeline.execute()
            if generation is None:
                return Answer(None, {})
            if generation == self._generation:
                items = ([json.loads(text) for text in each] for each in texts)
                lists = dict(zip(wanted, items, strict=True))
                return Answer(release, {user: _chosen(lists, user, segment) for user in users})
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
            " WHERE (kind, id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
        )

    def of(self, users: Sequence[str], segment: str | None = None) -> Answer:
        """Return the lists of some users, all of one release: they are read in one statement."""
        kinds, ids = zip(("segment", SEGMENT), *_wanted(users, segment), strict=True)
        rows = self._connection.execute(self._query, [list(kinds), list(ids)]).fetchall()
        if not rows:
            return Answer(None, {})
        lists = {(kind, each): items for kind, each, items, _ in rows}
        return Answer(rows[0][3], {user: _chosen(lists, user, segment) for user in users})


def _wanted(users: Sequence[str], segment: str | None) -> list[tuple[str, str]]:
    """Kinds and ids of the lists to read."""
    wanted = [("user", user) for user in users]
    if segment is not None:
        wanted += [("user_segments", user) for user in users]
        wanted.append(("segment", segment))
    return wanted


def _chosen(lists: Mapping[tuple[str, str], Items], user: str, segment: str | None) -> Items:
    """The list to show to a user."""
    own = [each for each in lists.get(("user_segments", user), []) if each["segment"] == segment]
    of_everybody = [] if segment is None else lists.get(("segment", segment), [])
    return own or of_everybody or lists.get(("user", user)) or lists.get(("segment", SEGMENT), [])


def open_lists(url: str) -> Lists:
    """Return the lists in the store at an address."""
    return RedisLists(url) if url.startswith("redis") else PostgresLists(url)


if __name__ == "__main__":
    address, *asked = sys.argv[1:]
    json.dump(open_lists(address).of(asked)._asdict(), sys.stdout, indent=1)
