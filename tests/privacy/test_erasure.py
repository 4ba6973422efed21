"""Erasure: nobody of the erased in tables, pins, models and logs, and everybody else as before."""

import dataclasses
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microrec.config.settings import HOME
from microrec.core import fitted
from microrec.core.fitted import Embeddings, NeighbourLists
from microrec.errors import CommitConflict, MicrorecError
from microrec.privacy import erasure, receipts, sweeping
from microrec.privacy.erasure import Config, Erasure
from microrec.privacy.proof import Scan
from microrec.privacy.quotes import Ids
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from microrec.tables.commit import Author
from tests import erasure_steps
from tests.erasure_steps import subject_of
from tests.worlds import people
from tests.worlds.people import DAYS, GONE, USERS
from tests.worlds.releases import UNTIL

AT_ONCE = Config(grace_seconds=0, abandoned_hours=0)


def erase(warehouse: Warehouse) -> list[erasure.Tally]:
    return erasure.erase(
        warehouse,
        receipts.requests(warehouse),
        subject_of=subject_of,
        config=AT_ONCE,
        authors_are_users=True,
    )


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    opened = Warehouse.open()
    people.make(opened)
    return opened


def test_erase_leaves_nobody_and_everybody_else_as_before(warehouse: Warehouse) -> None:
    before = people.others(warehouse)
    ids = [release.id for release in reader.every()]
    erase(warehouse)
    assert people.others(warehouse) == before
    releases = reader.every()
    assert [release.id for release in releases] == ids
    for release in releases:
        release.verify()
        assert release.erasure
        assert set(release.read("recommendations")["user_id"].to_pylist()) == {"170", "u12", "u2"}
    for table in ("users", "events", "recommendations", "suppressed_users"):
        rows = warehouse.read(table)
        assert not set(rows["user_id"].to_pylist()) & set(GONE)
    assert set(warehouse.read("suppressed_users")["user_id"].to_pylist()) == {"u0"}


def hits(warehouse: Warehouse) -> dict[str, int]:
    scan = Scan(Ids(GONE), warehouse.schemas, namesakes=people.VIDEOS)
    scan.folder(Path(warehouse.root))
    return dict(scan.hits)


def test_erase_and_proof_agree(warehouse: Warehouse) -> None:
    before = hits(warehouse)
    for place in (
        "users.user_id", "users.user_id (footer)", "events.user_id", "recommendations.user_id",
        "rejected_rows.line", "videos.author_id", "videos.caption", "videos.tags", "gate_results.detail",
        "suppressed_users.user_id",
    ):  # fmt: skip
        assert before.get(place), place
    assert not [place for place in before if "video_id" in place]
    erase(warehouse)
    assert hits(warehouse) == {}


def test_erase_runs_again_without_a_commit(warehouse: Warehouse) -> None:
    erase(warehouse)
    tables = ("users", "events", "recommendations", "releases", "erasures", "suppressed_users")
    versions = {table: warehouse.version(table) for table in tables}
    assert erase(warehouse) == []
    assert {table: warehouse.version(table) for table in tables} == versions
    subjects = warehouse.read("erasures")["subject"].to_pylist()
    assert sorted(subjects) == sorted(map(subject_of, GONE))


def test_erase_again_only_on_a_later_request(warehouse: Warehouse) -> None:
    erase(warehouse)
    rows = warehouse.read("suppressed_users", day=DAYS[-1]).drop_columns("day")
    (kept,) = rows.to_pylist()
    for moment, n_receipts in ((UNTIL, 2), (UNTIL + dt.timedelta(days=1), 3)):
        asking = {"user_id": "u1", "kind": "erase", "requested_at": moment}
        again = pa.Table.from_pylist([kept, asking], schema=rows.schema)
        warehouse.write("suppressed_users", again, day=DAYS[-1])
        erase(warehouse)
        assert warehouse.count("erasures") == n_receipts
        assert warehouse.read("suppressed_users")["user_id"].to_pylist() == ["u0"]


def test_night_builds_nothing_again_but_user_networks(warehouse: Warehouse) -> None:
    day = DAYS[0]
    stamps = {
        "events": warehouse.made_with("events", arrived_on=day),
        "watch_edges": warehouse.made_with("watch_edges", day=day),
    }
    files = warehouse.fingerprint("events", "watch_edges", "users", day=day)
    assert warehouse.made_with("user_edges", day=day, fit="final") == "w"
    erase(warehouse)
    assert warehouse.made_with("events", arrived_on=day) == stamps["events"] == f"files of {day}"
    assert warehouse.made_with("watch_edges", day=day) == stamps["watch_edges"]
    assert warehouse.fingerprint("events", "watch_edges", "users", day=day) == files
    assert warehouse.made_with("user_edges", day=day, fit="final") is None


def test_erase_keeps_late_attempts_out(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = warehouse.read("users", day=DAYS[0]).drop_columns("day")
    late = dataclasses.replace(warehouse, author=Author("a night", 1, "0"))
    again = dataclasses.replace(warehouse, author=Author("a night", 2, "0"))
    again.write("users", rows, day=DAYS[0])
    monkeypatch.setattr(sweeping, "holds_bounds", lambda table, ids: True)
    monkeypatch.setattr(erasure.sweeping, "holds_bounds", lambda table, ids: True)
    erase(warehouse)
    names = sorted(p.name for p in Path(warehouse.root, "users", "_delta_log").glob("*.json"))
    assert int(names[0][:20]) > 3
    with pytest.raises(CommitConflict, match="attempt 1 of run a night is late"):
        late.write("users", rows, day=DAYS[0])


def test_models_lose_rows_and_lists_and_older_ones_go(warehouse: Warehouse) -> None:
    gone = [USERS.index(user) for user in GONE]
    kept = [USERS.index(user) for user in people.KEPT]
    before = {
        model: fitted.load(warehouse.find_artefact(day=DAYS[-1], fit="final", model=model))
        for model in ("content", "user_neighbours")
    }
    erase(warehouse)
    assert not Path(warehouse.root, f"artefacts/day={DAYS[0]}").exists()
    for day in DAYS[1:]:
        folders = list(Path(warehouse.root, f"artefacts/day={day}").glob("*/*/*"))
        assert len(folders) == 2
    folder = warehouse.find_artefact(day=DAYS[-1], fit="final", model="content")
    content, content_before = fitted.load(folder), before["content"]
    assert isinstance(content, Embeddings)
    assert isinstance(content_before, Embeddings)
    assert not content.user[gone].any()
    assert not content.user_known[gone].any()
    assert np.array_equal(content.user[kept], content_before.user[kept])
    assert np.array_equal(content.video, content_before.video)
    parameters = fitted.load_parameters(folder)
    assert not parameters["layer.user_id"][gone].any()
    assert np.array_equal(parameters["layer.user_id"][kept], content_before.user[kept])
    assert parameters["video_id"].all()
    lists = fitted.load(warehouse.find_artefact(day=DAYS[-1], fit="final", model="user_neighbours"))
    lists_before = before["user_neighbours"]
    assert isinstance(lists, NeighbourLists)
    assert isinstance(lists_before, NeighbourLists)
    for user in range(len(USERS)):
        now, then = (
            of.neighbour[of.indptr[user] : of.indptr[user + 1]] for of in (lists, lists_before)
        )
        assert now.tolist() == ([] if user in gone else [w for w in then if w not in gone])


def test_logs_of_before_lose_their_bounds(place: Path) -> None:
    opened = Warehouse.open()
    with people.bounds_in_log():
        people.make(opened)
    assert any("_delta_log" in name for name in hits(opened))
    before = people.others(opened)
    erase(opened)
    assert hits(opened) == {}
    assert people.others(opened) == before
    for release in reader.every():
        release.verify()


def test_staged_files_of_an_attempt_in_progress_hold_the_receipt_up(warehouse: Warehouse) -> None:
    rows = warehouse.read("users", day=DAYS[0]).drop_columns(["day"])
    folder = Path(warehouse.root, "users", "attempt-other-1", f"day={DAYS[0]}")
    folder.mkdir(parents=True)
    pq.write_table(rows, folder / "part-0.parquet")
    (folder / "part-1.parquet").write_bytes(b"PAR1 cut off")
    careful = Config(grace_seconds=0, abandoned_hours=1)
    asking = receipts.requests(warehouse)
    with pytest.raises(MicrorecError, match="2 files of an attempt that may be in progress"):
        erasure.erase(
            warehouse, asking, subject_of=subject_of, config=careful, authors_are_users=True
        )
    assert not warehouse.partitions("erasures")
    erase(warehouse)
    assert hits(warehouse) == {}
    assert warehouse.count("erasures") == 2


def test_plan_counts_and_changes_nothing(warehouse: Warehouse) -> None:
    before = hits(warehouse)
    erasing = Erasure.of(warehouse, GONE, config=AT_ONCE, authors_are_users=True)
    planned = {tally.table: len(tally.files) for tally in erasing.plan()}
    assert planned["users"] == 3
    assert planned["recommendations"] == 4  # the second day as it is, and as it was released
    assert hits(warehouse) == before


def test_release_held_open_is_read_during_the_grace(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = reader.latest()
    before = held.read("recommendations")
    read_in_grace = []

    def sleep(seconds: float) -> None:
        # The request itself has a grace of its own, after that of the tables.
        if seconds and not read_in_grace:
            held.verify()
            read_in_grace.append(held.read("recommendations"))

    monkeypatch.setattr(erasure.time, "sleep", sleep)
    erasure.erase(
        warehouse,
        receipts.requests(warehouse),
        subject_of=subject_of,
        config=Config(grace_seconds=5, abandoned_hours=0),
        authors_are_users=True,
    )
    assert [rows.equals(before) for rows in read_in_grace] == [True]
    assert reader.latest().read("recommendations").equals(before)
    assert reader.latest().tables["recommendations"] != held.tables["recommendations"]


@pytest.mark.spark
def test_spark_reads_what_is_left_as_the_same_arrivals(warehouse: Warehouse, spark: object) -> None:
    from microrec.tables import spark as engine

    opened = engine.Warehouse.open()
    window = {"day": DAYS[-1], "days": len(DAYS)}
    before = opened.arrivals("events", **window)
    assert len(before) == len(DAYS)
    erase(warehouse)
    assert opened.arrivals("events", **window) == before
    rows = opened.read_arrivals("events", list(before)).select("user_id", "day").distinct()
    left = {(row.user_id, row.day) for row in rows.collect()}
    assert left == {(user, day) for user in people.KEPT for day in DAYS}


def run_steps(root: Path, number: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MICROREC_WAREHOUSE": str(root)}
    command = [sys.executable, erasure_steps.__file__, str(number)]
    return subprocess.run(
        command, env=environment, cwd=HOME, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.faults
def test_erasure_killed_at_any_step_is_finished_by_the_next(place: Path) -> None:
    opened = Warehouse.open()
    with people.bounds_in_log():
        people.make(opened)
    before = people.others(opened)
    steps = run_steps(copied(opened, place / "undisturbed"), 10_000)
    assert not steps.returncode, steps.stderr
    names = steps.stdout.split("\n")[:-1]
    assert {
        "before microrec.tables.entries.cut",
        "after Table.exchange",
        "before Sweep.delete",
    } <= {*names}
    first = {name: number for number, name in reversed([*enumerate(names)])}
    last = {name: number for number, name in enumerate(names)}
    for number in sorted({*first.values(), *last.values(), *range(3, len(names), 11)}):
        name = names[number]
        root = copied(opened, place / f"killed-{number}")
        assert run_steps(root, number).returncode == -signal.SIGKILL
        finished = run_steps(root, 10_000)
        assert not finished.returncode, (name, finished.stderr)
        warehouse = Warehouse.open(str(root))
        assert hits(warehouse) == {}, name
        assert people.others(warehouse) == before, name
        assert warehouse.count("erasures") == 2, name
        for release in reader.every(str(root)):
            release.verify()
        shutil.rmtree(root)


def copied(warehouse: Warehouse, target: Path) -> Path:
    shutil.copytree(warehouse.root, target)
    return target
