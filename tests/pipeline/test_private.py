"""Who wants to teach nobody, or no profiling, is in nothing that others' lists come from: these are the same without.

From the log to the tables of a night with Spark, and from the tables to the lists without it.
"""

import datetime as dt
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from microrec.config.settings import settings
from microrec.landing import write
from microrec.pipeline import fit_tables, private, release_gates
from microrec.pipeline.night import Night
from microrec.privacy import erasure, export, receipts
from microrec.privacy.proof import Scan
from microrec.privacy.quotes import Ids
from microrec.tables import arrow
from microrec.tables import spark as spark_tables
from tests.worlds import logs, small_tables
from tests.worlds.nights import call, fit_and_select

DAY = logs.NIGHT
N_USERS, K = 60, 10
COPIED = {"p0": 0, "p7": 7}
"""Users who teach nobody, by the user whose history they have."""
UNPROFILED = "shy"
"""A user who wants no profiling."""
FITTED_TO_USERS = "user_neighbours"
"""The model of the recipe that has nothing for whom it was not fitted to."""
RECIPE = f"""
[night]
k = {K}
models = ["popularity", "content", "user_neighbours", "video_neighbours", "ease"]

[candidates.exploration]
places = 1
every = 5
max_likers = 10
max_viewers = 20
most_price = 1.0

[candidates.rewatch]
length = 3
rest_days = 1

[evaluation.gate]
better_than_popularity = -1.0
"""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[bool, Night]]:
    """The lists of one world, without and with users who teach nobody."""
    place = tmp_path_factory.mktemp("private")
    patch = pytest.MonkeyPatch()
    (place / "recipe.toml").write_text(RECIPE)
    patch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    made = {}
    for with_private in (False, True):
        patch.setenv("MICROREC_WAREHOUSE", str(place / str(with_private)))
        settings.cache_clear()
        plant(arrow.Warehouse.open(), with_private=with_private)
        fit_and_select(DAY, "trial")
        call("evaluate_sources", DAY)
        fit_and_select(DAY, "final")
        call("select_recommendations", DAY)
        call("check_recommendations", DAY)
        made[with_private] = Night.open(DAY)
    yield made
    patch.undo()
    settings.cache_clear()


def plant(warehouse: arrow.Warehouse, *, with_private: bool) -> None:
    world = logs.viewings(3, n_users=N_USERS)
    nodes = world["video_nodes"]
    eligible = pa.array(np.arange(nodes.num_rows) % 11 != 5)
    world["video_nodes"] = nodes.drop_columns(["eligible"]).append_column("eligible", eligible)
    undone = pa.array(np.random.default_rng(3).random(world["watch_edges"].num_rows) < 0.05)
    position = world["watch_edges"].schema.get_field_index("undone")
    edges = world["watch_edges"] = world["watch_edges"].set_column(position, "undone", undone)
    for name, rows in world.items():
        for part in [{"fit": "trial"}, {"fit": "final"}] if name == "user_edges" else [{}]:
            complete = small_tables.complete(name, rows, without={"day", *part})
            warehouse.write(name, complete, day=DAY, **part)
    tagged = nodes.select(["video_id"]).append_column("tags", pa.array([["t"]] * nodes.num_rows))
    videos = small_tables.complete("videos", tagged, without={"day"})
    warehouse.write("videos", videos, day=DAY)
    for empty in ("suppressed_users", "exposure_counts"):
        warehouse.write_empty(empty, day=DAY)
    if not with_private:
        return
    users = pa.table({"user_idx": [N_USERS, N_USERS + 1], "user_id": list(COPIED)})
    rows = small_tables.complete("private_users", users, without={"day"})
    warehouse.write("private_users", rows, day=DAY)
    wishes = [(UNPROFILED, "no_profiling"), *((user, "no_teaching") for user in COPIED)]
    wished = {"user_id": [user for user, _ in wishes], "kind": [kind for _, kind in wishes]}
    rows = small_tables.complete("preferences", pa.table(wished), without={"day"})
    warehouse.write("preferences", rows, day=DAY)
    copies = []
    for number, user in enumerate(COPIED.values()):
        theirs = edges.filter(pc.equal(edges["user_idx"], user)).drop_columns(["user_idx"])
        index = pa.array([N_USERS + number] * theirs.num_rows, pa.int32())
        copies.append(theirs.append_column("user_idx", index))
    rows = small_tables.complete("private_edges", pa.concat_tables(copies), without={"day"})
    warehouse.write("private_edges", rows, day=DAY)


def test_models_and_lists_of_others_are_the_same_to_the_byte(nights: Mapping[bool, Night]) -> None:
    """So is all that is made for or of everybody: weights, figures, fallbacks, lists beside videos."""
    whole = (
        *("models", "fusion_weights", "blend_weights", "metrics", "gate_results"),
        *("fallback_recommendations", "similar_videos"),
    )
    for table in whole:
        without, with_private = (nights[which].warehouse.read(table, day=DAY) for which in nights)
        kept = [name for name in without.column_names if name not in ("detail", "path")]
        assert without.num_rows
        assert without.select(kept).equals(with_private.select(kept)), table
    n_rows = 0
    for fit, source in (
        (fit, name) for fit in ("trial", "final") for name in sources(nights[True])
    ):
        without, with_private = (
            nights[which].read("candidates", fit=fit, source=source) for which in nights
        )
        others = with_private.filter(pc.less(with_private["user_idx"], N_USERS))
        assert without.equals(others), (fit, source)
        n_rows += with_private.num_rows - others.num_rows
        assert fit == "final" or with_private.num_rows == others.num_rows
    assert n_rows
    for table in ("recommendations", "segment_recommendations", "rewatch_recommendations"):
        without, with_private = (nights[which].read(table) for which in nights)
        theirs = pc.is_in(with_private["user_id"], value_set=pa.array([*COPIED, UNPROFILED]))
        assert without.equals(with_private.filter(pc.invert(theirs))), table
        assert pc.any(theirs).as_py(), table
    lists = nights[True].read("recommendations").to_pylist()
    shown = [row for row in lists if row["user_id"] == UNPROFILED]
    assert len(shown) == K
    assert {row["source"] for row in shown} == {"no_profiling"}


def sources(night: Night) -> tuple[str, ...]:
    return night.config.sources


def test_candidates_are_those_of_who_has_the_same_history(nights: Mapping[bool, Night]) -> None:
    """By each model that scores a history as it serves; none by one that was not fitted to them."""
    night = nights[True]
    columns = ["rank", "video_idx", "score"]
    for source in sources(night):
        rows = night.read("candidates", fit="final", source=source)
        of = {user: rows.filter(pc.equal(rows["user_idx"], user)) for user in range(N_USERS + 2)}
        for number, copied in enumerate(COPIED.values()):
            mine = of[N_USERS + number].select(columns)
            if source == FITTED_TO_USERS:
                assert mine.num_rows == 0 < of[copied].num_rows
            else:
                assert mine.num_rows
                assert mine.equals(of[copied].select(columns)), source


def test_lists_are_personal_whole_and_right(nights: Mapping[bool, Night]) -> None:
    """The gates of a release and the oracle see them; what was seen is in none."""
    night = nights[True]
    rows = night.read("recommendations")
    seen = night.read("private_edges").to_pylist()
    names = dict(
        zip(
            *(night.read("video_nodes")[name].to_pylist() for name in ("video_id", "video_idx")),
            strict=True,
        )
    )
    for number, user in enumerate(COPIED):
        mine = rows.filter(pc.equal(rows["user_id"], user)).to_pylist()
        assert len(mine) == K
        assert {row["source"] for row in mine} >= {"ease"} - {FITTED_TO_USERS}
        watched = {row["video_idx"] for row in seen if row["user_idx"] == N_USERS + number}
        assert watched
        assert not watched & {names[row["video_id"]] for row in mine}
    agreement, *_ = night.read("gate_results", fit="oracle").to_pylist()
    assert (agreement["gate"], agreement["status"]) == ("oracle", "pass")
    judged = release_gates.judge(night, rows, night.read("fallback_recommendations"))
    assert not [
        result for result in judged.results if (result.status, result.severity) == ("fail", "hold")
    ]
    gone = rows.filter(pc.not_equal(rows["user_id"], "p0"))
    judged = release_gates.judge(night, gone, night.read("fallback_recommendations"))
    failed = {
        result.gate
        for result in judged.results
        if (result.status, result.severity) == ("fail", "hold")
    }
    assert "users_covered" in failed


def test_what_is_counted_over_users_leaves_them_out(nights: Mapping[bool, Night]) -> None:
    tables = [fit_tables.read(nights[which]) for which in nights]
    without, with_private = (each.knowledge for each in tables)
    assert np.array_equal(without.likers, with_private.likers)
    assert np.array_equal(without.viewers, with_private.viewers)
    assert with_private.history[N_USERS:].tolist() == without.history[[*COPIED.values()]].tolist()
    assert [each.n_teachers for each in tables] == [N_USERS, N_USERS]
    assert tables[1].users.num_rows == N_USERS + len(COPIED)


def test_export_and_erasure_find_them_by_their_own_table_of_users(
    nights: Mapping[bool, Night], place: Path
) -> None:
    """What is by index goes too, and others keep theirs."""
    shutil.copytree(nights[True].warehouse.root, place / "copy")
    warehouse = arrow.Warehouse.open(str(place / "copy"))
    held = export.export(warehouse, "p0", place / "held", authors_are_users=False)
    assert {"private_users", "private_edges", "candidates", "recommendations"} <= set(held)
    kept = warehouse.read("private_edges", day=DAY)
    kept = kept.filter(pc.not_equal(kept["user_idx"], N_USERS))
    at = dt.datetime(2026, 1, 9, tzinfo=dt.UTC)
    erasure.erase(
        warehouse,
        [receipts.Request("p0", at)],
        subject_of=lambda _: "a subject",
        config=erasure.Config(grace_seconds=0, abandoned_hours=0),
        authors_are_users=False,
    )
    scan = Scan(Ids(["p0"]), settings().schemas, authors_are_users=False)
    scan.folder(place / "copy")
    assert dict(scan.hits) == {}
    assert warehouse.read("private_edges", day=DAY).equals(kept)
    assert warehouse.read("private_users", day=DAY)["user_id"].to_pylist() == ["p7"]
    left = pc.unique(warehouse.read("candidates", day=DAY)["user_idx"]).to_pylist()
    assert set(left) >= {0, N_USERS + 1}
    assert N_USERS not in left
    tables = fit_tables.read(replace(nights[True], warehouse=warehouse))
    assert tables.users.num_rows == N_USERS + len(COPIED)
    assert fit_tables.served_users(nights[True], tables)[-1] == N_USERS + 1


TABLES = (
    *("users", "video_nodes", "watch_edges", "clip_edges", "user_edges"),
    *("exposure_counts", "exposures", "sequences"),
)
"""Of a night, all that models are fitted to and that is made of viewings."""
SILENT = {"shy": "no_profiling", "quiet": "no_teaching", "both": "no_teaching"}
WITHDRAWN = {"out": "opt_out", "erased": "erase"}


@pytest.mark.spark
@pytest.mark.slow
def test_tables_that_teach_are_the_same_with_and_without_who_teaches_nobody(
    place: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of others too, which rank all that was watched on a day; the night before knew of no wish yet."""
    recipe = "[night]\nwindow_days = 3\n[graphs.user_edges]\nmin_common = 1\n"
    (place / "recipe.toml").write_text(recipe)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    made = {}
    for with_silent in (False, True):
        for name in ("WAREHOUSE", "LANDING"):
            monkeypatch.setenv(f"MICROREC_{name}", str(place / f"{name}-{with_silent}"))
        settings.cache_clear()
        deliver(place / f"LANDING-{with_silent}", with_silent=with_silent)
        for job in ("validate_events", "build_watch_graph"):
            call(job, DAY - dt.timedelta(days=1))
        if with_silent:
            wish(place / f"LANDING-{with_silent}")
        for job in ("validate_events", "build_watch_graph", "build_user_graph"):
            call(job, DAY)
        for job in ("count_exposures", "build_sequences"):
            call(job, DAY, anyway=True)
        made[with_silent] = arrow.Warehouse.open()
    for table in TABLES:
        assert made[False].read(table, day=DAY).num_rows, table
        digests = {warehouse.digest(table, day=DAY) for warehouse in made.values()}
        assert len(digests) == 1, table
    for table in ("events", "daily_watches"):
        without, with_silent = (warehouse.read(table) for warehouse in made.values())
        theirs = pc.is_in(with_silent["user_id"], value_set=pa.array([*SILENT, *WITHDRAWN]))
        assert pc.any(theirs).as_py(), table
        others = with_silent.filter(pc.invert(theirs))
        assert sorted(map(str, others.to_pylist())) == sorted(map(str, without.to_pylist())), table


def deliver(landing: Path, *, with_silent: bool) -> None:
    """Three days of thirty users, and of a few whose watch times are shorter or longer than all others'."""
    pick = random.Random(8)
    videos = [
        json.dumps({"video_id": f"v{n}", "duration_ms": 30_000, "eligible": 1}) for n in range(12)
    ]
    first = DAY - dt.timedelta(days=2)
    write.write_lines(str(landing), "raw_videos", first, videos, kind="jsonl")
    for day in (first, DAY - dt.timedelta(days=1), DAY):
        viewings = [
            (f"u{pick.randrange(30)}", f"v{pick.randrange(12)}", pick.randrange(1_000, 30_000))
            for _ in range(120)
        ]
        if with_silent:
            viewings += [
                (user, f"v{number}", watch_ms)
                for user in (*SILENT, *WITHDRAWN) for number, watch_ms in enumerate((1, 15_000, 29_999))
            ]  # fmt: skip
        lines = [
            json.dumps(
                {
                    "user_id": user, "video_id": video, "watch_ms": watch_ms,
                    "started_at": f"{day}T10:{number % 60:02}:{number // 60:02}Z",
                }
            )
            for number, (user, video, watch_ms) in enumerate(viewings)
        ]  # fmt: skip
        write.write_lines(str(landing), "raw_interactions", day, lines, kind="jsonl")


def wish(landing: Path) -> None:
    """What the few ask for on the last of the days."""
    wishes = {
        "raw_preferences": [*SILENT.items(), ("both", "no_profiling")],
        "raw_privacy_requests": list(WITHDRAWN.items()),
    }
    for table, kinds in wishes.items():
        requests = [
            {"user_id": user, "kind": kind, "requested_at": f"{DAY}T12:00:00Z"}
            for user, kind in kinds
        ]
        if table == "raw_preferences":
            requests = [request | {"value": ""} for request in requests]
        lines = [json.dumps(request) for request in requests]
        write.write_lines(str(landing), table, DAY, lines, kind="jsonl")


@pytest.mark.spark
def test_write_numbers_users_after_those_who_teach(place: Path, spark: SparkSession) -> None:
    """Without a wish there are none, and the tables are committed all the same."""
    night = Night.open(DAY)
    night.write_empty("suppressed_users")
    night.write_empty("rejected_rows", raw_table="raw_interactions")
    nodes = {"user_idx": [0, 1], "user_id": ["a", "d"]}
    night.write("users", small_tables.complete("users", pa.table(nodes), without={"day"}))
    nodes = {"video_idx": [0, 1], "video_id": ["v0", "v1"]}
    night.write(
        "video_nodes", small_tables.complete("video_nodes", pa.table(nodes), without={"day"})
    )
    watched = [("a", "v0", 0), ("b", "v1", 0), ("c", "v0", 1), ("c", "v1", 2)]
    user_id, video_id, ago = (list(values) for values in zip(*watched, strict=True))
    days = [DAY - dt.timedelta(days=days_ago) for days_ago in ago]
    viewings = [[{"duration_ms": 9_000, "watch_ms": 5_000, "counts": True}]] * len(days)
    columns = pa.table(
        {"user_id": user_id, "video_id": video_id, "day": days, "viewings": viewings}
    )
    rows = small_tables.complete("daily_watches", columns, without={"arrived_on"})
    rows = rows.append_column("arrived_on", pa.array([DAY] * len(days), pa.date32()))
    night.warehouse.write("daily_watches", rows, replace=[{"arrived_on": DAY}])
    private.write(night, spark_tables.Warehouse.open())
    assert private.users(night).num_rows == private.edges(night).num_rows == 0
    wishes = pa.table(
        {"user_id": ["c", "b", "stranger"], "kind": ["no_teaching"] * 3, "value": [""] * 3}
    )
    night.write("preferences", small_tables.complete("preferences", wishes, without={"day"}))
    private.write(night, spark_tables.Warehouse.open())
    numbered = private.users(night).to_pylist()
    assert {row["user_id"]: row["user_idx"] for row in numbered} == {"b": 2, "c": 3}
    edges = private.edges(night).to_pylist()
    pairs = sorted((row["user_idx"], row["video_idx"], row["split"]) for row in edges)
    assert pairs == [(2, 1, "holdout"), (3, 0, "validation"), (3, 1, "train")]
