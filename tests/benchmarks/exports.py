"""What a hand-off costs: `python -m tests.benchmarks.exports --out DIR`.

Two releases of K places a user, made without a night, go to each store in turn: the first into an empty store, the
second in its place, the second once more (its time to live is set anew), then a hundredth of the users withdraws and
is taken out, and a consumer asks for users drawn at random. Servers run on this machine, on loopback, without
persistence.
"""

import argparse
import contextlib
import datetime as dt
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dags.examples import serve_lists
from microrec.export import handoff, stores
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.benchmarks import report
from tests.export import servers
from tests.worlds.releases import filled, publish

logger = logging.getLogger(__name__)

FIRST = dt.date(2026, 1, 4)
NEXT = FIRST + dt.timedelta(days=1)
K = 20
REASON = "people whose viewing resembles yours watch it to the end"
WITHDRAWN = 0.01
"""Share of the users who leave."""
ASKED = 500
"""Requests of a consumer, for one user each."""
STORES = ("parquet", "jsonl", "redis", "postgres", "pgvector")


def make(warehouse: Warehouse, *, n_users: int) -> None:
    """Write two releases of the same users.

    Args:
        warehouse: empty.
        n_users: users of each.
    """
    ids = pa.array([f"u{user:08d}" for user in range(n_users)])
    rng = np.random.default_rng(1)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    for day in (FIRST, NEXT):
        videos = pa.array([f"v{video:07d}" for video in range(100_000)])
        n_rows = n_users * K
        lists = {
            "user_id": ids.take(pa.array(np.repeat(np.arange(n_users), K))),
            "rank": np.tile(np.arange(1, K + 1, dtype=np.int32), n_users),
            "video_id": videos.take(pa.array(distinct(rng, n_users, len(videos)))),
            "score": np.tile(np.linspace(1, 0, K, dtype=np.float32), n_users),
            "reason": pa.repeat(REASON, n_rows),
            "source": pa.repeat("user_neighbours", n_rows),
        }
        publish(warehouse, day, n_rows, until=until, **lists)


def distinct(rng: np.random.Generator, n_users: int, n_videos: int) -> np.ndarray:
    """Indices of K videos a user, no two of a user alike."""
    first = rng.integers(0, n_videos, n_users)
    step = rng.integers(1, n_videos // K, n_users)
    return ((first[:, None] + step[:, None] * np.arange(K)) % n_videos).reshape(-1)


def withdraw(warehouse: Warehouse, n_people: int) -> None:
    """Have some users withdraw, and all others come back."""
    ids = [f"u{user:08d}" for user in range(n_people)]
    rows = filled(warehouse, "suppressed_users", n_people, user_id=ids, kind=["opt_out"] * n_people)
    warehouse.write("suppressed_users", rows, day=NEXT)


@contextlib.contextmanager
def address_of(store: str, place: Path) -> Iterator[str]:
    """Start a store; yield its address.

    Args:
        store: one of `STORES`.
        place: folder for files and logs.
    """
    if store == "redis":
        with servers.redis_server(place) as url:
            yield url
    elif store in ("postgres", "pgvector"):
        with servers.postgres_server(pgvector=store == "pgvector") as url:
            yield url
    else:
        yield f"{store}:{place / store}"


def measure(warehouse: Warehouse, store: str, address: str, n_users: int) -> list[report.Row]:
    """Rows of what each step takes.

    Args:
        warehouse: result of `make`.
        store: its name, one of `STORES`.
        address: of the store, which is empty.
        n_users: users of a release.
    """
    root = warehouse.root
    now = dt.datetime.now(dt.UTC)
    rows = []
    scale = f"{n_users} users"

    def timed(step: str, call: Callable[[], object], users: int) -> None:
        began, cpu = time.perf_counter(), time.process_time()
        call()
        wall, own = time.perf_counter() - began, time.process_time() - cpu
        logger.warning("%s: %s: %.1f s", store, step, wall)
        rows.append(report.row("exports", store, f"{step}, wall", scale, wall, unit="s"))
        rows.append(report.row("exports", store, f"{step}, own CPU", scale, own, unit="s"))
        rows.append(report.row("exports", store, f"{step}, users/s", scale, users / wall, unit=""))

    target = stores.open_store(address)
    withdraw(warehouse, 0)
    for step, day in (("first", FIRST), ("replaced", NEXT), ("renewed", NEXT)):
        timed(
            step,
            lambda day=day: handoff.export(target, lambda: reader.of(day, root), at=now),
            n_users,
        )
    n_people = round(WITHDRAWN * n_users)
    withdraw(warehouse, n_people)
    timed(
        "withdrawn",
        lambda: handoff.remove_withdrawn(target, lambda each: reader.named(each, root)),
        n_people,
    )
    if store in ("redis", "postgres"):
        rows += asked(store, address, n_users, n_people)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    sizes = {"peak of the exporting process": peak, "size of the store": size(store, address)}
    return rows + [
        report.row("exports", store, what, scale, mb, unit="MB") for what, mb in sizes.items()
    ]


def size(store: str, address: str) -> float:
    """MB that the store takes, of one release.

    Args:
        store: its name, one of `STORES`.
        address: of the store.
    """
    if store == "redis":
        import redis

        about: Any = redis.Redis.from_url(address).info("memory")
        return float(about["used_memory"]) / 2**20
    if store in ("postgres", "pgvector"):
        import psycopg

        with psycopg.connect(address) as connection:
            ((taken,),) = connection.execute("SELECT pg_database_size(current_database())")
        return float(taken) / 2**20
    folder = Path(address.partition(":")[2])
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def asked(store: str, address: str, n_users: int, n_people: int) -> list[report.Row]:
    """Rows of how long a consumer waits for the list of one user, and for those of a thousand."""
    lists = serve_lists.open_lists(address)
    rng = np.random.default_rng(2)
    times = []
    for user in rng.integers(n_people, n_users, ASKED):
        began = time.perf_counter()
        answer = lists.of([f"u{user:08d}"])
        times.append(1000 * (time.perf_counter() - began))
        assert all(len(each) == K for each in answer.lists.values())
    many = [f"u{user:08d}" for user in range(n_people, min(n_users, n_people + 1000))]
    began = time.perf_counter()
    lists.of(many)
    thousand = 1000 * (time.perf_counter() - began)
    figures = {
        "one user, median": statistics.median(times),
        "one user, 99th percentile": float(np.percentile(times, 99)),
        f"{len(many)} users at once": thousand,
    }
    return [
        report.row("exports", store, f"ask for {what}", f"{n_users} users", value, unit="ms")
        for what, value in figures.items()
    ]


def apart(call: Callable[..., Any], *words: Any) -> Any:
    """Return what a call in a process of its own does, so that its peak is of nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, words)


def make_in(root: str, n_users: int) -> None:
    """Do `make` in the warehouse at a root."""
    make(Warehouse.open(root), n_users=n_users)


def measure_in(root: str, store: str, address: str, n_users: int) -> list[report.Row]:
    """Return `measure` of the warehouse at a root."""
    logging.basicConfig(level=logging.WARNING)
    return measure(Warehouse.open(root), store, address, n_users)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory(prefix="microrec-exports-") as place:
        root = str(Path(place) / "warehouse")
        apart(make_in, root, arguments.users)
        for store in arguments.stores:
            with address_of(store, Path(place)) as address:
                rows += apart(measure_in, root, store, address, arguments.users)
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
