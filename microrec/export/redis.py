"""Redis: lists of each user, segment and video; the pointer is a hash that expires when the release does.

    <name>:served                        hash: release, day, valid_until, generation, content, lists
    <name>:<generation>:user:<user_id>   list of JSON objects, best first; segment:<segment>, video:<video_id> alike
    <name>:<generation>:user_segments:<user_id>   the user's lists of surfaces and tags, each place with its `segment`

A consumer reads the pointer and the lists in one transaction (MULTI), so that both are of one moment: see
dags/examples/serve_lists.py. One Redis is meant, with or without replicas, and no cluster: a transaction there has one
slot.
"""

import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from microrec.errors import CommitConflict, MicrorecError
from microrec.export.contents import USER_SEGMENTS, Contents, json_texts
from microrec.export.target import Served, Target

logger = logging.getLogger(__name__)

COMMANDS = 2_000
"""Lists of a round trip."""
KEYS = 5_000
"""Keys that a step of a scan looks at."""


class Redis(Target):
    """A Redis that serves a release.

    Args:
        url: `redis://` or `rediss://`.
        name: what its keys begin with.
        lock_seconds: how long an export that was killed keeps others out.
    """

    def __init__(self, url: str, name: str, *, lock_seconds: float = 60) -> None:
        """Open a client; it connects when it is used."""
        try:
            import redis
        except ImportError as error:
            raise MicrorecError("export to Redis: install the extra, microrec[redis]") from error
        self.name = name
        self._lock_ms = int(lock_seconds * 1000)
        self._client = redis.Redis.from_url(url, decode_responses=True)
        self._watch_error = redis.WatchError
        self._token = secrets.token_hex(16)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a key that expires unless this export goes on writing."""
        deadline = time.monotonic() + 2 * self._lock_ms / 1000
        while not self._client.set(self._lock, self._token, nx=True, px=self._lock_ms):
            if time.monotonic() > deadline:
                raise CommitConflict(f"export: another export to {self.name} is at work")
            time.sleep(0.1)
        try:
            yield
        finally:
            if self._client.get(self._lock) == self._token:
                self._client.delete(self._lock)

    def served(self) -> Served | None:
        """Return what the pointer says; None if there is none, or it has expired."""
        texts: Any = self._client.hgetall(self._pointer)
        return Served.of_texts(texts) if texts else None

    def stage(self, contents: Contents, served: Served) -> int:
        """Write the lists under keys that no pointer names; vectors are refused.

        Raises:
            MicrorecError: vectors were asked for.
            CommitConflict: another export has begun meanwhile, as this one stood still.
        """
        if contents.models:
            raise MicrorecError("export to Redis: lists only; vectors go to Postgres or files")
        until = int(served.valid_until.timestamp() * 1000)
        n_lists = 0
        for kind, ids, items in contents.batches(COMMANDS):
            self._hold()
            pipeline = self._client.pipeline(transaction=False)
            for each, texts in zip(ids.to_pylist(), json_texts(items), strict=True):
                key = f"{self._keys(served)}:{kind}:{each}"
                pipeline.rpush(key, *texts)
                pipeline.pexpireat(key, until)
            pipeline.execute()
            n_lists += len(ids)
        return n_lists

    def switch(self, served: Served) -> None:
        """Write the pointer.

        Raises:
            CommitConflict: another export has begun meanwhile, as this one stood still.
        """
        with self._client.pipeline() as pipeline:
            pipeline.watch(self._lock)  # type: ignore[no-untyped-call]
            if pipeline.get(self._lock) != self._token:
                raise self._late()
            pipeline.multi()
            pipeline.delete(self._pointer)
            texts: Any = served.texts()
            pipeline.hset(self._pointer, mapping=texts)
            pipeline.pexpireat(self._pointer, int(served.valid_until.timestamp() * 1000))
            try:
                pipeline.execute()
            except self._watch_error as error:
                raise self._late() from error

    def renew(self, served: Served) -> bool:
        """Set the time to live of every list and of the pointer; False if Redis has dropped some lists."""
        until = int(served.valid_until.timestamp() * 1000)
        n_lists = 0
        for keys in self._scan(f"{_escaped(self._keys(served))}:*"):
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.pexpireat(key, until)
            n_lists += sum(pipeline.execute())
        return n_lists == served.lists and bool(self._client.pexpireat(self._pointer, until))

    def keep(self, users: pa.Array, profiled: pa.Array) -> int:
        """Delete the lists of all other users."""
        served = self.served()
        if served is None:
            return 0
        n_users = self._keep_in(f"{self._keys(served)}:user:", users)
        removed = n_users + self._keep_in(f"{self._keys(served)}:{USER_SEGMENTS}:", profiled)
        if removed:
            changed: Any = {"content": "", "lists": served.lists - removed}
            self._client.hset(self._pointer, mapping=changed)
        return n_users

    def sweep(self) -> None:
        """Delete the lists of all generations but the served one."""
        served = self.served()
        kept = f"{self._keys(served)}:" if served else None
        for keys in self._scan(f"{_escaped(self.name)}:*:*:*"):
            self._delete([key for key in keys if kept is None or not key.startswith(kept)])

    @property
    def _pointer(self) -> str:
        return f"{self.name}:served"

    @property
    def _lock(self) -> str:
        return f"{self.name}:lock"

    def _keys(self, served: Served) -> str:
        """What the keys of a generation begin with."""
        return f"{self.name}:{served.generation}"

    def _keep_in(self, start: str, users: pa.Array) -> int:
        """Delete the keys that begin with `start` and go on with none of some users."""
        allowed = set(users.to_pylist())
        return sum(
            self._delete([key for key in keys if key.removeprefix(start) not in allowed])
            for keys in self._scan(f"{_escaped(start)}*")
        )

    def _hold(self) -> None:
        """Go on holding the lock."""
        if self._client.get(self._lock) != self._token:
            raise self._late()
        self._client.pexpire(self._lock, self._lock_ms)

    def _late(self) -> CommitConflict:
        return CommitConflict(
            f"export: another export to {self.name} has begun, as this one stood still; nothing was switched"
        )

    def _scan(self, pattern: str) -> Iterator[list[str]]:
        """Yield the keys of a pattern, a page at a time; a key may come twice."""
        cursor = 0
        while True:
            self._hold()
            answer: Any = self._client.scan(cursor, match=pattern, count=KEYS)
            cursor, keys = answer
            if keys:
                yield keys
            if not cursor:
                return

    def _delete(self, keys: Iterable[str]) -> int:
        deleted: Any = self._client.delete(*keys) if keys else 0
        return int(deleted)


def _escaped(text: str) -> str:
    """A text as a pattern that matches it alone."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^-" else letter for letter in text)
