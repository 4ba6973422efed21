"""A warehouse in an object store, against an S3 server of this machine (moto): the promises of a folder, kept there.

Spark is not asked here: pyspark's wheel has no `hadoop-aws` (`microrec/tables/spark.py` says what it takes). That its
code path names the right places is tested with its own file system in the place of S3's.
"""

import datetime as dt
import io
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pyarrow as pa
import pytest

from microrec.cli import app
from microrec.config.settings import settings
from microrec.errors import CheckFailed, CommitConflict, LockHeld, MissingDay
from microrec.pipeline import erasing
from microrec.pipeline.night import Night
from microrec.privacy import erasure
from microrec.release import reader, retention
from microrec.runner.exit_status import ExitStatus
from microrec.spark import session
from microrec.tables import artefacts, commit, pages, spark, store_lock
from microrec.tables.arrow import Warehouse
from tests.worlds import people
from tests.worlds.releases import publish
from tests.worlds.small_tables import DAY, NEXT, edges, users

ROOT = "s3://bucket/teams/house"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an S3 server with an empty memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/moto-api/", process)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError("moto's server did not answer")


@pytest.fixture
def bucket(server: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket that settings, deltalake and boto3 reach with the same words."""
    urllib.request.urlopen(
        urllib.request.Request(f"{server}/moto-api/reset", method="POST"), timeout=30
    ).close()
    options = {
        "AWS_ACCESS_KEY_ID": "a key", "AWS_SECRET_ACCESS_KEY": "a word", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server, "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    monkeypatch.setenv("MICROREC_WAREHOUSE", ROOT)
    monkeypatch.setenv("MICROREC_STORAGE_OPTIONS", json.dumps(options))
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.chdir(place)  # what takes the URI for a path would make a folder `s3:` here
    settings.cache_clear()
    client = boto3.client(
        "s3", endpoint_url=server, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    yield client
    assert not (place / "s3:").exists()
    assert not (place / "warehouse").exists()


def keys(bucket: Any) -> list[str]:
    return [one["Key"] for one in bucket.list_objects_v2(Bucket="bucket").get("Contents", [])]


def test_store_lock_is_of_one_holder_until_given_back_or_old(bucket: Any) -> None:
    """Of eight who take it at once one has it; who was killed takes it again; in the end it is nobody's."""
    uri, options = f"{ROOT}/lock", Warehouse.open().options
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    store_lock.take(uri, options, "first", stale_before=long_ago)
    store_lock.take(uri, options, "first", stale_before=long_ago)
    with pytest.raises(LockHeld, match=r"held since .* UTC by a process of another machine"):
        store_lock.take(uri, options, "second", stale_before=long_ago)
    store_lock.give_back(uri, options, "second")
    with pytest.raises(LockHeld):
        store_lock.take(uri, options, "second", stale_before=long_ago)
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    store_lock.take(uri, options, "second", stale_before=ahead)
    store_lock.give_back(uri, options, "first")
    store_lock.give_back(uri, options, "second")
    names = [f"holder {number}" for number in range(8)]
    ready = threading.Barrier(len(names))

    def take(name: str) -> str | None:
        ready.wait(60)
        try:
            store_lock.take(uri, options, name, stale_before=long_ago)
        except LockHeld:
            return None
        return name

    with ThreadPoolExecutor(len(names)) as pool:
        taken = [name for name in pool.map(take, names) if name]
    assert len(taken) == 1
    store_lock.give_back(uri, options, taken[0])
    store_lock.take(uri, options, "last", stale_before=long_ago)


def test_store_erasures_of_two_machines_take_turns(
    bucket: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused, and says until when; then it erases, and the proof finds nobody."""
    monkeypatch.setenv("MICROREC_PRIVACY_KEY", "a key of the object store")
    monkeypatch.setattr(erasing, "STATE", place / "state")
    settings.cache_clear()
    warehouse = people.erasable(place, monkeypatch)
    night = Night.open(people.DAYS[-1])
    uri = f"{ROOT}/{erasing.STORE_LOCK}"
    now = dt.datetime.now(dt.UTC)
    store_lock.take(uri, warehouse.options, "another machine", stale_before=now)
    recipe = place / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("abandoned_hours = 0", "abandoned_hours = 1"))
    with pytest.raises(
        erasure.Unfinished, match=r"another erasure is at work .*counts for 1 hours"
    ):
        erasing.erase_due(Night.open(people.DAYS[-1]), str(place / "landing"))
    assert {"u1", "17"} < set(warehouse.read("users")["user_id"].to_pylist())
    store_lock.give_back(uri, warehouse.options, "another machine")
    assert erasing.erase_due(night, str(place / "landing"))
    for name in ("users", "recommendations", "events"):
        assert not {"u1", "17"} & set(warehouse.read(name)["user_id"].to_pylist())
    assert warehouse.read("erasures").num_rows == 2
    assert any(key.endswith(".json") and "/manifests/" in key for key in keys(bucket))
    assert pages.save(warehouse, DAY, "<p>a page</p>").startswith(ROOT)
    assert pages.forget(warehouse) == [str(DAY)]
    store_lock.take(uri, warehouse.options, "anybody", stale_before=now)


def test_store_is_searched_like_a_folder_and_holds_nobody_after_the_erasure(
    bucket: Any, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it the same places have the same hits as in a folder, and no copy of an object stays here."""
    monkeypatch.setenv("MICROREC_PRIVACY_KEY", "a key of the object store")
    monkeypatch.setenv("TMPDIR", str(place / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (place / "scratch").mkdir()
    monkeypatch.setattr(erasing, "STATE", place / "state")
    settings.cache_clear()
    warehouse = people.erasable(place, monkeypatch)
    beside = Warehouse(str(place / "house"), warehouse.schemas, warehouse.author, {})
    people.make(beside)

    def prove(*words: str, code: int) -> dict[str, int]:
        """Hits of columns: names of files have a random part."""
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{each}\n" for each in people.GONE)))
        options = ("--state", str(place / "nothing"), "--json", *words)
        printed = typed(capsys, "prove-erasure", *options, code=code)
        rows = map(json.loads, printed.splitlines())
        return {row["place"]: row["hits"] for row in rows if "/" not in row["place"]}

    refused = ExitStatus.DATA_ERROR
    before = prove(code=refused)
    assert {"users.user_id", "rejected_rows.line", "videos.caption"} <= set(before)
    assert before == prove("--warehouse", str(beside.root), code=refused)
    assert erasing.erase_due(Night.open(people.DAYS[-1]), str(place / "landing"))
    assert prove(code=0) == {}
    assert all(row["proved_at"] for row in warehouse.read("erasures").to_pylist())
    assert list((place / "scratch").iterdir()) == []


def test_store_days_are_written_replaced_read_and_missed_as_in_a_folder(bucket: Any) -> None:
    warehouse = Warehouse.open()
    assert warehouse.partitions("users") == []
    with pytest.raises(MissingDay, match=rf"users\[day=2026-01-04\].* in {ROOT}"):
        warehouse.read("users", day=DAY)
    first = warehouse.write("users", users(3), day=DAY)
    before = warehouse.digest("users", day=DAY)
    warehouse.write("users", users(5), day=DAY, made_with=["k=10"])
    warehouse.write("users", users(2), day=NEXT)
    assert warehouse.read("users", day=DAY, columns=["user_id"]).num_rows == 5
    assert warehouse.read("users", day=DAY, where={"user_id": "u004"}).num_rows == 1
    assert warehouse.read("users").num_rows == 7
    assert warehouse.read("users", day=DAY, version=first).num_rows == 3
    assert (
        warehouse.digest("users", day=DAY, version=first)
        == before
        != warehouse.digest("users", day=DAY)
    )
    assert warehouse.partitions("users") == [{"day": str(DAY)}, {"day": str(NEXT)}]
    assert warehouse.exists("users", day=NEXT)
    assert not warehouse.exists("users", day=dt.date(2020, 1, 1))
    assert warehouse.count("users", day=DAY) == 5
    assert warehouse.made_with("users", day=DAY) == "k=10"
    assert [one["scope"] for one in warehouse.table("users").open().history(2)] == [
        f"day={NEXT}", f"day={DAY}",
    ]  # fmt: skip
    warehouse.write("watch_edges", edges(["train", "holdout"]), day=DAY)
    warehouse.write("watch_edges", edges([]), day=DAY)
    assert warehouse.read("watch_edges", day=DAY).num_rows == 0
    assert all(key.startswith("teams/house/") for key in keys(bucket))
    local = Warehouse(str(Path("local").resolve()), warehouse.schemas, warehouse.author, {})
    local.write("users", users(3), day=DAY)
    assert local.digest("users", day=DAY) == before, "the same rows, wherever they lie"


def test_store_broken_rule_leaves_the_old_day(bucket: Any) -> None:
    warehouse = Warehouse.open()
    warehouse.write("users", users(3), day=DAY)
    with pytest.raises(CheckFailed, match="unique"):
        warehouse.write("users", pa.concat_tables([users(3), users(1)]), day=DAY)
    assert warehouse.read("users", day=DAY).num_rows == 3


def test_store_late_attempt_is_refused_and_contended_log_retried(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in ("2", "1"):
        monkeypatch.setenv("MICROREC_ATTEMPT", attempt)
        settings.cache_clear()
        if attempt == "2":
            Warehouse.open().write("users", users(3), day=DAY)
    with pytest.raises(CommitConflict, match="attempt 1 of run manual is late"):
        Warehouse.open().write("users", users(9), day=DAY)

    monkeypatch.setenv("MICROREC_RUN_ID", "another")
    settings.cache_clear()
    warehouse, fence, raced = Warehouse.open(), commit.Table._fence, []

    def beaten(self: commit.Table, *rest: Any) -> None:
        """Another writer commits the same version between our look at the log and our commit."""
        fence(self, *rest)
        if not raced:
            raced.append(True)
            warehouse.write("users", users(7, prefix="theirs"), day=DAY)

    monkeypatch.setattr(commit.Table, "_fence", beaten)
    warehouse.write("users", users(4, prefix="ours"), day=DAY)
    assert raced
    ids = warehouse.read("users", day=DAY)["user_id"].to_pylist()
    assert ids == [f"ours{n:03}" for n in range(4)], "the last one's, whole, and nobody else's"


def test_store_two_first_writers_make_one_table(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, raced = commit.Table._create, []

    def beaten(self: commit.Table, *rest: Any) -> None:
        if not raced:
            raced.append(True)
            Warehouse.open().write("users", users(2), day=NEXT)
        create(self, *rest)

    monkeypatch.setattr(commit.Table, "_create", beaten)
    warehouse = Warehouse.open()
    warehouse.write("users", users(3), day=DAY)
    assert [warehouse.count("users", day=day) for day in (DAY, NEXT)] == [3, 2]


def test_store_artefacts_are_copied_both_ways(bucket: Any, place: Path) -> None:
    warehouse = Warehouse.open()

    def save(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "vectors").write_bytes(b"\x00" * 3_000_000)
        (folder / "config.json").write_text("{}")

    path, digest = warehouse.save_artefact(day=DAY, fit="trial", model="content", save=save)
    assert path == f"artefacts/day={DAY}/fit=trial/model=content/{digest[:16]}"
    assert [key for key in keys(bucket) if "artefacts" in key] == [
        f"teams/house/{path}/config.json", f"teams/house/{path}/inner/vectors",
    ]  # fmt: skip
    assert not list((place / "home").rglob("*.json")), "what was copied is not kept beside it"
    artefacts._copied.cache_clear()
    folder = warehouse.open_artefact(path, digest)
    assert (folder / "inner" / "vectors").stat().st_size == 3_000_000
    assert warehouse.save_artefact(day=DAY, fit="trial", model="content", save=save) == (
        path,
        digest,
    )
    for missing in ("artefacts/day=2026-01-04/nothing", "../artefacts", "artefacts/../x", "/etc"):
        with pytest.raises(MissingDay, match=r"no such folder|not among those"):
            warehouse.open_artefact(missing, digest)
    artefacts._copied.cache_clear()
    bucket.put_object(Bucket="bucket", Key=f"teams/house/{path}/config.json", Body=b"[]")
    with pytest.raises(MissingDay, match="does not have the digest"):
        warehouse.open_artefact(path, digest)
    long_past = {"before": NEXT, "untouched_since": dt.datetime(2000, 1, 1, tzinfo=dt.UTC)}
    assert warehouse.forget_artefacts(**long_past, dry_run=False) == []
    ahead = {"before": NEXT, "untouched_since": dt.datetime(2999, 1, 1, tzinfo=dt.UTC)}
    assert warehouse.forget_artefacts(**ahead, dry_run=True) == [str(DAY)]
    assert keys(bucket)
    assert warehouse.forget_artefacts(**ahead, dry_run=False) == [str(DAY)]
    assert keys(bucket) == []


def typed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["microrec", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
    said = capsys.readouterr()
    assert ended.value.code == code, said
    return said.out


def test_store_releases_are_read_verified_rolled_back_and_vacuumed(
    bucket: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse.open()
    publish(warehouse, DAY, 3)
    publish(warehouse, NEXT, 4)
    monkeypatch.delenv("MICROREC_WAREHOUSE")
    settings.cache_clear()
    good, bad = reader.of(DAY, ROOT), reader.latest(ROOT)
    assert bad.read("recommendations").num_rows == 4
    assert good.to_pandas("recommendations", user_id="u1").shape[0] == 1
    good.verify()
    there = ("--warehouse", f"{ROOT}/")
    assert json.loads(typed(capsys, "releases", "--latest", *there)) == {
        "day": str(NEXT), "release": bad.id,
    }  # fmt: skip
    assert bad.id in typed(capsys, "releases", *there)
    assert "recommendations: 3 rows" in typed(
        capsys, "show", "recommendations", "--day", str(DAY), *there
    )
    said = typed(capsys, "rollback", "--to", str(DAY), "--reason", "one author", *there)
    assert f"withdrawn: {NEXT}" in said
    assert good.id in said
    assert reader.latest(ROOT) == good
    rows = warehouse.read("recommendations", day=NEXT).drop_columns(["day"])
    warehouse.write("recommendations", rows, day=NEXT)  # nobody pins the version in between
    warehouse.write("recommendations", rows, day=NEXT)
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    before = set(keys(bucket))
    gone = retention.vacuum(warehouse, hours=0, keep=30, now=now)["recommendations"]
    assert len(gone) == 1
    assert before - set(keys(bucket)) >= {f"teams/house/recommendations/{gone[0]}"}
    good.verify()
    bad.verify()
    assert "would be deleted" in typed(capsys, "vacuum", "--dry-run", *there)


def test_store_spark_paths_use_supported_schemes(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which paths Spark is given to read; Spark itself only writes them down."""
    assert session.hadoop("s3://bucket/a/s3://b") == "s3a://bucket/a/s3://b"
    for other in ("s3a://bucket/a", "gs://bucket/a", "abfss://box@host/a", "/srv/s3://x"):
        assert session.hadoop(other) == other
    Warehouse.open().write("users", users(3), day=DAY)
    asked: list[str] = []

    class Told:
        read = property(lambda self: self)
        schema = lambda self, _: self  # noqa: E731

        def parquet(self, *paths: str) -> Any:
            asked.extend(paths)
            raise InterruptedError

    monkeypatch.setattr(spark, "session", lambda: Told())
    warehouse = spark.Warehouse.open()
    with pytest.raises(InterruptedError):
        warehouse.read("users", day=DAY)
    (path,) = asked
    assert path.startswith("s3a://bucket/teams/house/users/attempt-manual-")
    assert f"/day={DAY}/" in path

    class Rows:
        """Stands for a frame: every step of a write gives itself, the last one is told the folder."""

        def __getattr__(self, name: str) -> Any:
            return asked.append if name == "parquet" else SimpleNamespace if name == "x" else self

        def __call__(self, *_: Any, **__: Any) -> Any:
            return self

    opened = warehouse.table("watch_edges")
    warehouse._stage(opened, "attempt-1", Rows(), {"day": str(DAY)})
    assert asked[-1] == f"s3a://bucket/teams/house/watch_edges/attempt-1/day={DAY}"
