"""The oracle agrees with every list of a planted night, whatever makes it, and sees every sabotage of one."""

import ast
import datetime as dt
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrec.candidates.lists import exploration, likeness
from microrec.candidates.ranking import learned_blend
from microrec.candidates.retrieval import exact as retrieval
from microrec.config import recipe
from microrec.config.settings import HOME, settings
from microrec.core import fitted
from microrec.errors import GateHeld, MicrorecError, MissingDay
from microrec.oracle import compare, inputs, sources
from microrec.oracle import lists as oracle_lists
from microrec.oracle.inputs import Stored
from microrec.oracle.sources import SourceScores
from microrec.pipeline import fit_tables, oracle_inputs
from microrec.pipeline.night import Night
from microrec.runner import shards
from microrec.tables import arrow
from tests.worlds import logs, small_tables
from tests.worlds.nights import call, fit_and_select

DAY = logs.NIGHT
DAY_LONG = dt.timedelta(days=1)
N_USERS, N_VIDEOS, K = 60, 90, 10
N_LISTS = N_USERS
"""All but one who has opted out, and one whom no log knows and who wants no profiling."""
UNPROFILED = {"u0013", "stranger"}
"""The first has uploads, and has blocked an author; the second has blocked a tag."""
REMEMBERED, RESET = "u0018", "u0012"
"""Of the first video 2 and every eighth one from there are remembered; the second has reset what is."""
OWNER = "u0009"
"""Who has uploaded v00009 and v00069, among others."""
RECIPE = f"""
[night]
k = {K}
authors_are_users = true
models = ["popularity", "content", "user_neighbours", "video_neighbours", "multi_trend"]
rankers = ["multi_trend"]

[models.user_neighbours]
history_decay = 0.8

[models.video_neighbours]
history_decay = 0.6

[models.multi_trend]
dim = 8
epochs = 1
history_length = 20

[candidates.blend]
c = 5.0
weights = {{popularity = {{warm = 0.3, cold = 1.0}}, user_neighbours = {{warm = 0, cold = 0}}}}

[candidates.fusion] # the recipe's weights stand, so that every source is in the lists
caution = 100.0

[candidates.hybrid]
least_positives = 20
least_in_leaf = 20
trees = 30
explained = 10

[evaluation.gate]
better_than_popularity = -1.0
"""
LEARNED = """
[candidates.diversity]
author_cap = 3
collapse = 0.98
relevance = 0.95
[candidates.exploration]
places = 2
every = 3
max_likers = 20
max_viewers = 40
"""
OTHERS = {
    "varied": "[candidates.diversity]\nrelevance = 0.5\npool = 2\nauthor_cap = 1\n",
    "explored": "[candidates.exploration]\nplaces = 3\nmax_likers = 10\nmax_viewers = 20\nsharpness = 1.0\n",
    "crowded": "[candidates.exploration]\nplaces = 12\nmax_likers = 90\nmax_viewers = 90\n",
    "plain": "",
}
"""Other lists of the same candidates."""

logger = logging.getLogger(__name__)

Sabotage = Callable[[arrow.Warehouse], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A night with a learned blend, variety and exploration, up to its lists."""
    place = tmp_path_factory.mktemp("oracle")
    patch = pytest.MonkeyPatch()
    patch.setenv("MICROREC_WAREHOUSE", str(place / "warehouse"))
    patch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    (place / "recipe.toml").write_text(RECIPE + LEARNED)
    warehouse = arrow.Warehouse.open()
    for back in (2, 1, 0):
        day = DAY - dt.timedelta(days=back)
        plant(warehouse, day, seed=back)
        fit_and_select(day, "trial")
        call("evaluate_sources", day)
    fit_and_select(DAY, "final")
    call("select_recommendations", DAY)
    yield place
    patch.undo()
    settings.cache_clear()


@pytest.fixture
def warehouse(made: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> arrow.Warehouse:
    """A copy of it that a test may spoil."""
    shutil.copytree(made, place, dirs_exist_ok=True)
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    return arrow.Warehouse.open()


def plant(warehouse: arrow.Warehouse, day: dt.date, *, seed: int) -> None:
    """The graph tables of a day; some videos are young, some are users' own or must not be shown, one user left."""
    world = logs.viewings(seed, n_users=N_USERS, n_videos=N_VIDEOS)
    end = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC) + dt.timedelta(days=1)
    hours = [None if video % 7 == 0 else 13 * video - 20 for video in range(N_VIDEOS)]
    published = [None if ago is None else end - dt.timedelta(hours=ago) for ago in hours]
    nodes = world["video_nodes"].drop_columns(["eligible"])
    author = nodes["author_id"].to_pylist()
    author[1::4] = [f"u{video % N_USERS:04d}" for video in range(1, N_VIDEOS, 4)]
    place = nodes.schema.get_field_index("author_id")
    nodes = nodes.set_column(place, "author_id", pa.array(author, pa.string()))
    nodes = nodes.append_column("eligible", pa.array(np.arange(N_VIDEOS) % 11 != 5))
    nodes = nodes.append_column("published_at", pa.array(published, pa.timestamp("us", "UTC")))
    watched = world["watch_edges"]
    rng, column = np.random.default_rng(seed), watched.schema.get_field_index("undone")
    undone = pa.array(rng.random(watched.num_rows) < 0.05)
    watched = watched.set_column(column, "undone", undone)
    for name, rows in {**world, "video_nodes": nodes, "watch_edges": watched}.items():
        for part in [{"fit": "trial"}, {"fit": "final"}] if name == "user_edges" else [{}]:
            warehouse.write(
                name, small_tables.complete(name, rows, without={"day", *part}), day=day, **part
            )
    warehouse.write("exposure_counts", shown(watched, day), day=day)
    gone = {"user_id": ["u0007"], "kind": ["opt_out"], "requested_at": pa.array([end - DAY_LONG])}
    warehouse.write("suppressed_users", pa.table(gone), day=day)
    wish(warehouse, nodes, day)
    pairs = [
        (user, video) for user in range(0, N_USERS, 6) for video in range(user % 4, N_VIDEOS, 8)
    ]
    columns = {
        "user_id": [f"u{user:04d}" for user, _ in pairs],
        "video_id": nodes["video_id"].take([video for _, video in pairs]),
        "last_on": [day - dt.timedelta(days=20 + video % 9) for _, video in pairs],
    }
    rows = small_tables.complete("remembered_videos", pa.table(columns), without={"day"})
    warehouse.write("remembered_videos", rows, day=day)
    reset = {"user_id": [RESET], "first_day": [None], "last_day": [day - dt.timedelta(days=10)]}
    rows = small_tables.complete("withheld_periods", pa.table(reset), without={"day"})
    warehouse.write("withheld_periods", rows, day=day)


def shown(edges: pa.Table, day: dt.date) -> pa.Table:
    """`exposure_counts`: every third video on the surface `search`, some without a surface, the others on `feed`."""
    edges = edges.to_pandas().drop_duplicates(["user_idx", "video_idx"])
    user, video = edges["user_idx"].to_numpy(), edges["video_idx"].to_numpy()
    surface = np.where(video % 3 == 0, "search", np.where((user + video) % 4 == 0, "", "feed"))
    columns = {
        "user_idx": pa.array(user, pa.int32()),
        "video_idx": pa.array(video, pa.int32()),
        "surface": pa.array(surface, pa.string()),
        "shown_on": [day - dt.timedelta(days=int(ago)) for ago in (user * video) % 50],
        "n_shown": pa.array(edges["n_views"], pa.int32()),
        "n_positive": pa.array(edges["n_positive"], pa.int32()),
    }
    return pa.table(columns)


def wish(warehouse: arrow.Warehouse, nodes: pa.Table, day: dt.date) -> None:
    """Blocks of all kinds, and some who do not want new videos tried on them."""
    tags = [["odd"] if video % 2 else None for video in range(N_VIDEOS)]
    videos = pa.table(
        {"video_id": nodes["video_id"], "tags": pa.array(tags, pa.list_(pa.string()))}
    )
    complete = small_tables.complete("videos", videos, without={"day"})
    warehouse.write("videos", complete, day=day)
    ids = nodes["video_id"].to_pylist()
    wishes = [
        *[(f"u{user:04d}", "block_video", ids[video]) for user in range(0, 40, 2) for video in range(0, 60, 3)],
        *[(f"u{user:04d}", "block_author", nodes["author_id"][1].as_py()) for user in range(1, 40, 4)],
        ("u0013", "block_author", "a22"),
        ("u0003", "block_tag", "odd"), ("u0003", "block_tag", "even"), ("stranger", "block_tag", "odd"),
        *[(f"u{user:04d}", "no_exploration", "") for user in range(0, N_USERS, 5)],
        *[(user, "no_profiling", "") for user in sorted(UNPROFILED)],
    ]  # fmt: skip
    columns = dict(
        zip(("user_id", "kind", "value"), map(list, zip(*wishes, strict=True)), strict=True)
    )
    since = pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * len(wishes))
    warehouse.write("preferences", pa.table({**columns, "since": since}), day=day)


def judged(warehouse: arrow.Warehouse) -> list[dict[str, Any]]:
    """What the oracle has written of lists, of similar videos and of lists of segments."""
    rows = warehouse.read("gate_results", day=DAY, fit="oracle").to_pylist()
    by_gate = {row["gate"]: row for row in rows}
    assert by_gate.keys() == {"oracle", "similar_videos", "segment_lists"}
    return [by_gate[name] for name in ("oracle", "similar_videos", "segment_lists")]


def verdict(warehouse: arrow.Warehouse) -> compare.Verdict:
    """What the oracle says of everybody."""
    published = warehouse.read("recommendations", day=DAY)
    users = compare.draw_users(published["user_id"].to_pylist(), N_LISTS, np.random.default_rng(0))
    return compare.check(
        oracle_inputs.read(Night.open(DAY), users, inputs.Config()), published, users
    )


def test_oracle_learned_varied_and_explored_lists_agree(
    warehouse: arrow.Warehouse,
) -> None:
    """The world is worth it: every source, all kinds of rows, and ties that float32 tells apart."""
    published = warehouse.read("recommendations", day=DAY).to_pandas()
    assert published["user_id"].nunique() == N_LISTS
    kinds = set(published["source"])
    assert {"exploration", "content", "multi_trend", "ranked_by_multi_trend"} <= kinds
    assert (published.loc[published["source"] == "exploration", "propensity"] < 1).any()
    for_all = published["source"] == "no_profiling"
    assert set(published.loc[for_all, "user_id"]) == UNPROFILED
    personal = published[~for_all]
    assert not UNPROFILED & set(personal["user_id"])
    unexplored = personal["user_id"].str[1:].astype(int) % 5 == 0
    assert "exploration" not in set(personal.loc[unexplored, "source"])
    assert "exploration" in set(personal.loc[~unexplored, "source"])
    blocked = published[(published["user_id"] == "u0003")]["video_id"].str[1:].astype(int)
    assert len(blocked)
    assert (blocked % 2 == 0).all()
    claims = [name for name in published if name.startswith("evidence_")]
    assert len(claims) == 4
    assert published[claims].notna().sum().min() > N_USERS / 4
    call("check_recommendations", DAY)
    row, beside, part = judged(warehouse)
    assert (beside["gate"], beside["status"]) == ("similar_videos", "pass")
    assert (part["gate"], part["status"]) == ("segment_lists", "pass")
    assert (row["gate"], row["severity"], row["status"]) == ("oracle", "hold", "pass")
    assert (row["observed"], row["threshold"]) == (1.0, 1.0)
    assert oracle_inputs.read(Night.open(DAY), [], inputs.Config()).learned is not None
    found = verdict(warehouse)
    assert found.n_users == N_LISTS
    assert not found.differences
    assert not any(found.n_unlike.values())


def test_oracle_list_without_profiling_is_that_of_everybody(warehouse: arrow.Warehouse) -> None:
    """Less what they have blocked or uploaded; a video that they have seen may come."""
    published, nodes = (
        lists(warehouse),
        warehouse.read("video_nodes", day=DAY).sort_by("video_idx").to_pandas(),
    )
    fallback = warehouse.read("fallback_recommendations", day=DAY).to_pandas()
    everyones = fallback[fallback["segment"] == "__global__"].sort_values("rank")["video_id"]
    author = nodes.set_index("video_id")["author_id"]
    blocked = {"u0013": everyones[everyones.map(author).isin(["u0013", "a22"])]}
    blocked["stranger"] = everyones[everyones.str[1:].astype(int) % 2 == 1]
    edges = warehouse.read("watch_edges", day=DAY).to_pandas()
    seen = set(
        nodes.set_index("video_idx")["video_id"][edges.loc[edges["user_idx"] == 13, "video_idx"]]
    )
    for user in UNPROFILED:
        rows = published[published["user_id"] == user]
        allowed = everyones[~everyones.isin(blocked[user])].tolist()
        assert rows["video_id"].tolist()[: len(allowed)] == allowed
        assert len(rows) == K
        assert rows["score"].tolist() == [-float(rank) for rank in rows["rank"]]
        assert (
            rows["reason"].str.endswith("the same for everybody who asked for no profiling").all()
        )
        assert rows[[name for name in rows if name.startswith("evidence_")]].isna().all(axis=None)
    assert all(len(videos) for videos in blocked.values())
    assert seen & set(published.loc[published["user_id"] == "u0013", "video_id"])


def test_oracle_remembered_videos_are_not_listed(warehouse: arrow.Warehouse) -> None:
    """But where they were reset. Everybody remembered has a list all the same."""
    published = lists(warehouse)
    number = published["video_id"].str[1:].astype(int)
    mine = published["user_id"] == REMEMBERED
    assert mine.sum() == K
    assert not (number[mine] % 8 == 2).any()
    assert (number[published["user_id"] == RESET] % 8 == 0).any()


def test_lists_show_the_words_of_a_models_card_and_those_of_other_rows(
    warehouse: arrow.Warehouse,
) -> None:
    published = warehouse.read("recommendations", day=DAY)
    shown = published.group_by(["source", "reason"]).aggregate([])
    assert {row["source"]: row["reason"] for row in shown.to_pylist()}.items() >= {
        ("content", "similar to videos you watched"),
        ("multi_trend", "fits what you have been watching lately"),
        ("ranked_by_multi_trend", "picked for you"),
        ("exploration", "new, among its first viewers"),
    }
    personal = shown.filter(pc.not_equal(shown["source"], "no_profiling"))
    assert len(set(personal["source"].to_pylist())) == personal.num_rows


@pytest.mark.spark
def test_oracle_lists_in_parts_and_by_spark_are_equal(
    warehouse: arrow.Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Spark was started with another recipe in the environment."""
    from microrec.spark.session import session

    with pytest.MonkeyPatch.context() as others:
        others.setenv("MICROREC_RECIPE", str(HOME / "microrec.toml"))
        session()
    whole = digests(warehouse)
    monkeypatch.setattr(shards, "USERS_AT_ONCE", 17)
    for tasks in (1, 2):
        propensities_of_one(warehouse)
        for source in ("content", "ranked_by_multi_trend", learned_blend.SOURCE):
            warehouse.write_empty("candidates", day=DAY, fit="final", source=source)
        spoiled = digests(warehouse)
        assert spoiled["lists"] != whole["lists"]
        assert spoiled["all"] != whole["all"]
        monkeypatch.setenv("MICROREC_RANK_TASKS", str(tasks))
        settings.cache_clear()
        call("select_candidates", DAY, fit="final", model="content")
        call("rank_candidates", DAY, fit="final", model="multi_trend")
        call("blend_candidates", DAY, fit="final")
        call("select_recommendations", DAY)
        assert digests(warehouse) == whole, f"{tasks} task(s)"


def digests(warehouse: arrow.Warehouse) -> dict[str, str]:
    """What is asked for part by part; of a network the order, as its last bits depend on who is scored together."""
    final = {"day": DAY, "fit": "final"}
    rows = warehouse.read("candidates", **final)
    is_network = pc.starts_with(rows["source"], "ranked_by_")
    ranked = rows.filter(is_network).sort_by([("user_idx", "ascending"), ("rank", "ascending")])
    others = set(rows.filter(pc.invert(is_network))["source"].to_pylist())
    by_source = {
        name: warehouse.digest("candidates", **final, source=name) for name in sorted(others)
    }
    return {
        "lists": warehouse.digest("recommendations", day=DAY),
        "weights": warehouse.digest("blend_weights", **final),
        "all": f"{by_source} {ranked.select(['user_idx', 'rank', 'video_idx']).to_pylist()}",
    }


@pytest.mark.parametrize("shape", sorted(OTHERS))
def test_oracle_closed_form_and_other_shapes_agree(warehouse: arrow.Warehouse, shape: str) -> None:
    trust_closed_form(warehouse)
    settings().recipe.write_text(RECIPE + OTHERS[shape])
    before = lists(warehouse)
    call("select_recommendations", DAY)
    assert differing(before, lists(warehouse)), "another recipe gives other lists"
    found = verdict(warehouse)
    assert found.n_users == N_LISTS
    assert not found.differences


def trust_closed_form(warehouse: arrow.Warehouse) -> None:
    """The trial finds the learned blend worse."""
    judged = warehouse.read("gate_results", day=DAY, fit="trial").drop_columns(["day", "fit"])
    learned = pc.equal(judged["gate"], "learned_not_worse")
    at = judged.schema.get_field_index("status")
    status = pc.if_else(learned, "fail", judged["status"])
    warehouse.write("gate_results", judged.set_column(at, "status", status), day=DAY, fit="trial")


def test_oracle_source_without_candidates_is_missing_in_both(warehouse: arrow.Warehouse) -> None:
    settings().recipe.write_text((RECIPE + LEARNED).replace('"content",', '"content", "ease",'))
    call("blend_candidates", DAY, fit="final")
    call("select_recommendations", DAY)
    assert not verdict(warehouse).differences


def test_oracle_blend_of_other_sources_is_refused(warehouse: arrow.Warehouse) -> None:
    """The recipe has changed since the blend was learned."""
    settings().recipe.write_text((RECIPE + LEARNED).replace('"content",', '"content", "ease",'))
    with pytest.raises(MicrorecError, match=r"asked for .*points_ease"):
        verdict(warehouse)


def lists(warehouse: arrow.Warehouse) -> pd.DataFrame:
    rows = warehouse.read("recommendations", day=DAY).drop_columns(["day"]).to_pandas()
    return rows.sort_values(["user_id", "rank"], ignore_index=True)


def differing(before: pd.DataFrame, after: pd.DataFrame) -> set[str]:
    """Users who have not the same rows, but for the last bits of the propensities."""
    before, after = (one.assign(propensity=one["propensity"].round(12)) for one in (before, after))
    of_user = [
        {user: rows.reset_index(drop=True) for user, rows in frame.groupby("user_id")}
        for frame in (before, after)
    ]
    nobody = before.iloc[:0]
    users = of_user[0].keys() | of_user[1].keys()
    return {u for u in users if not of_user[0].get(u, nobody).equals(of_user[1].get(u, nobody))}


def spoil(warehouse: arrow.Warehouse, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the published rows behind everybody's back."""
    schema = warehouse.read("recommendations", day=DAY).drop_columns(["day"]).schema
    rows = change(lists(warehouse))
    warehouse.write(
        "recommendations", pa.Table.from_pandas(rows, schema, preserve_index=False), day=DAY
    )


def at(rows: pd.DataFrame, user: str, rank: int) -> int:
    """Place of a row."""
    (place,) = rows.index[(rows["user_id"] == user) & (rows["rank"] == rank)]
    return int(place)


def two_rows_swapped(warehouse: arrow.Warehouse) -> None:
    """But for rank and score, which stay."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        for user in ("u0003", "u0020"):
            pair = [at(rows, user, 4), at(rows, user, 5)]
            what = [one for one in rows.columns if one not in ("rank", "score")]
            rows.loc[pair, what] = rows.loc[pair[::-1], what].to_numpy()
        return rows

    spoil(warehouse, change)


def a_seen_video(warehouse: arrow.Warehouse) -> None:
    """For the first user's third place."""
    seen = warehouse.read("watch_edges", day=DAY).filter(pc.field("user_idx") == 0)
    nodes = warehouse.read("video_nodes", day=DAY).sort_by("video_idx")

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[at(rows, "u0000", 3), "video_id"] = nodes["video_id"][
            seen["video_idx"][0].as_py()
        ].as_py()
        return rows

    spoil(warehouse, change)


def an_own_video(warehouse: arrow.Warehouse) -> None:
    """For its author's third place."""
    spoil(warehouse, lambda rows: _set(rows, at(rows, OWNER, 3), "video_id", own_video(warehouse)))


def own_video(warehouse: arrow.Warehouse) -> str:
    """An eligible video of the owner that the owner has not seen."""
    nodes = warehouse.read("video_nodes", day=DAY).to_pandas().set_index("video_idx")
    edges = warehouse.read("watch_edges", day=DAY).to_pandas()
    mine = nodes[(nodes["author_id"] == OWNER) & nodes["eligible"]]
    seen = edges.loc[edges["user_idx"] == int(OWNER[1:]), "video_idx"]
    return str(mine.loc[~mine.index.isin(seen), "video_id"].iloc[0])


def _set(rows: pd.DataFrame, place: int, column: str, value: object) -> pd.DataFrame:
    rows.loc[place, column] = value
    return rows


def test_oracle_own_video_is_not_listed(warehouse: arrow.Warehouse) -> None:
    trust_closed_form(warehouse)
    everything = RECIPE.replace(f"k = {K}", f"k = {N_VIDEOS}")
    settings().recipe.write_text(everything)
    call("select_recommendations", DAY)
    shown = lists(warehouse)
    mine = own_video(warehouse)
    assert (shown["video_id"] == mine).sum() > N_USERS / 3, "others see it"
    assert mine not in set(shown.loc[shown["user_id"] == OWNER, "video_id"])
    settings().recipe.write_text(everything.replace("authors_are_users = true", ""))
    call("select_recommendations", DAY)
    shown = lists(warehouse)
    assert mine in set(shown.loc[shown["user_id"] == OWNER, "video_id"])


def set_one(column: str, value: object, *, explored: bool = False) -> Sabotage:
    """Another value in one row of the table that has one."""

    def sabotage(warehouse: arrow.Warehouse) -> None:
        def change(rows: pd.DataFrame) -> pd.DataFrame:
            wanted = (rows["source"] == "exploration") == explored
            place = rows.index[wanted & rows[column].notna()][17]
            rows.loc[place, column] = value
            return rows

        spoil(warehouse, change)

    return sabotage


def claim_of_the_explored(warehouse: arrow.Warehouse) -> None:
    """Where there is nothing to claim."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[rows.index[rows["source"] == "exploration"][3], "evidence_viewers"] = 1
        return rows

    spoil(warehouse, change)


def propensities_of_one(warehouse: arrow.Warehouse) -> None:
    """As if nothing had been explored."""
    spoil(warehouse, lambda rows: rows.assign(propensity=1.0))


def lists_of_another(warehouse: arrow.Warehouse) -> None:
    """Two users have each other's."""
    names = {"u0010": "u0011", "u0011": "u0010"}
    spoil(warehouse, lambda rows: rows.assign(user_id=rows["user_id"].replace(names)))


def rows_missing(warehouse: arrow.Warehouse) -> None:
    spoil(warehouse, lambda rows: rows[(rows["user_id"] != "u0005") | (rows["rank"] < K)])


def artefact_shuffled(warehouse: arrow.Warehouse) -> None:
    """After the candidates are made."""
    folder = warehouse.find_artefact(day=DAY, fit="final", model="content")
    model = fitted.load(folder)
    assert isinstance(model, fitted.Embeddings)
    order = np.random.default_rng(4).permutation(N_VIDEOS)
    wrong = fitted.Embeddings(
        model.user, model.video[order], model.user_known, model.video_known[order]
    )
    save = partial(fitted.save, fitted.Trained(wrong, {}), config=retrieval.Config())
    path, digest = warehouse.save_artefact(day=DAY, fit="final", model="content", save=save)
    (row,) = warehouse.read("models", day=DAY, fit="final", model="content").to_pylist()
    row = {name: row[name] for name in row if name not in ("day", "fit", "model")}
    rows = pa.Table.from_pylist([{**row, "path": path, "digest": digest}])
    warehouse.write("models", rows, day=DAY, fit="final", model="content")


def remade(
    change: Callable[[pd.DataFrame], pd.DataFrame], source: str = "video_neighbours"
) -> Sabotage:
    """Spoil the candidates of a source, then let the night go on."""

    def sabotage(warehouse: arrow.Warehouse) -> None:
        where = {"day": DAY, "fit": "final", "source": source}
        rows = warehouse.read("candidates", **where).drop_columns(list(where))
        frame = change(rows.to_pandas().sort_values(["user_idx", "rank"], ignore_index=True))
        spoiled = pa.Table.from_pandas(frame, rows.schema, preserve_index=False)
        warehouse.write("candidates", spoiled, **where)
        for model in (
            recipe.current().night.rankers if source in recipe.current().night.models else []
        ):
            call("rank_candidates", DAY, fit="final", model=model)
        call("blend_candidates", DAY, fit="final")
        call("select_recommendations", DAY)

    return sabotage


def shuffled(rows: pd.DataFrame) -> pd.DataFrame:
    """The places of each list."""
    rng = np.random.default_rng(7)
    order = np.lexsort((rng.random(len(rows)), rows["user_idx"]))
    return rows.assign(video_idx=rows["video_idx"].to_numpy()[order])


def constant(rows: pd.DataFrame) -> pd.DataFrame:
    """All scores are equal, and so the order is that of the videos."""
    rows = rows.sort_values(["user_idx", "video_idx"], ignore_index=True).assign(score=0.5)
    return rows.assign(rank=rows.groupby("user_idx").cumcount() + 1)


def list_of_a_suppressed_user(warehouse: arrow.Warehouse) -> None:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        theirs = rows[rows["user_id"] == "u0008"].assign(user_id="u0007")
        return pd.concat([rows, theirs], ignore_index=True)

    spoil(warehouse, change)


def a_list_with_profiling(warehouse: arrow.Warehouse) -> None:
    """For somebody who wants none."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        theirs = rows[rows["user_id"] == "u0014"].assign(user_id="u0013")
        return pd.concat([rows[rows["user_id"] != "u0013"], theirs], ignore_index=True)

    spoil(warehouse, change)


def evidence_without_profiling(warehouse: arrow.Warehouse) -> None:
    """That they liked something is known from the log alone."""
    spoil(
        warehouse,
        lambda rows: _set(rows, at(rows, "u0013", 2), "evidence_video_id", rows["video_id"][0]),
    )


def a_blocked_video(warehouse: arrow.Warehouse) -> None:
    """For the third place of a user who has blocked its tag."""
    seen = set(
        warehouse.read("watch_edges", day=DAY)
        .filter(pc.field("user_idx") == 3)["video_idx"]
        .to_pylist()
    )
    nodes = warehouse.read("video_nodes", day=DAY).sort_by("video_idx").to_pylist()
    odd = next(
        v for v in nodes if v["video_idx"] % 2 and v["eligible"] and v["video_idx"] not in seen
    )
    spoil(warehouse, lambda rows: _set(rows, at(rows, "u0003", 3), "video_id", odd["video_id"]))


def a_remembered_video(warehouse: arrow.Warehouse) -> None:
    """For the third place of a user whose window has no viewing of it."""
    edges = warehouse.read("watch_edges", day=DAY).filter(
        pc.field("user_idx") == int(REMEMBERED[1:])
    )
    nodes = warehouse.read("video_nodes", day=DAY).sort_by("video_idx").to_pylist()
    seen = set(edges["video_idx"].to_pylist())
    video = next(
        v for v in nodes if v["video_idx"] % 8 == 2 and v["eligible"] and v["video_idx"] not in seen
    )
    spoil(
        warehouse, lambda rows: _set(rows, at(rows, REMEMBERED, 3), "video_id", video["video_id"])
    )


SABOTAGES: dict[str, Sabotage] = {
    "two rows swapped": two_rows_swapped,
    "a seen video": a_seen_video,
    "an own video": an_own_video,
    "a blocked video": a_blocked_video,
    "a remembered video": a_remembered_video,
    "a list with profiling": a_list_with_profiling,
    "evidence without profiling": evidence_without_profiling,
    "a wrong source": set_one("source", "ease"),
    "a wrong source_rank": set_one("source_rank", 99),
    "a wrong score": set_one("score", 0.05),
    "a wrong propensity": set_one("propensity", 0.031, explored=True),
    "another video as evidence": set_one("evidence_video_id", "v00000"),
    "one viewer too many": set_one("evidence_viewers", 1_000),
    "a trend nobody has": set_one("evidence_trend", 9),
    "another modality": set_one("evidence_modality", "smell"),
    "evidence of an exploration": claim_of_the_explored,
    "no propensities": propensities_of_one,
    "list of another user": lists_of_another,
    "list of a suppressed user": list_of_a_suppressed_user,
    "a row missing": rows_missing,
    "shuffled artefact": artefact_shuffled,
    "shuffled candidates": remade(shuffled),
    "shuffled candidates of a ranker": remade(shuffled, "ranked_by_multi_trend"),
    "constant scores": remade(constant),
    "constant scores, right order": remade(lambda rows: rows.assign(score=0.5), "content"),
}


def test_oracle_agrees_where_the_blend_gives_way_to_its_best_source(
    warehouse: arrow.Warehouse,
) -> None:
    """The learned order is not worse than the closed form there, and yet nobody's list has it."""
    results = warehouse.read("gate_results", day=DAY, fit="trial")
    rows = [
        row | {"status": "fail"} if row["gate"] == "best_source" else row
        for row in results.to_pylist()
    ]
    assert any(row["gate"] == "learned_not_worse" and row["status"] == "pass" for row in rows)
    partition = ["day", "fit"]
    changed = pa.Table.from_pylist(rows, schema=results.schema).drop_columns(partition)
    warehouse.write("gate_results", changed, day=DAY, fit="trial")
    call("blend_candidates", DAY, fit="final")
    call("select_recommendations", DAY)
    assert not verdict(warehouse).differences


def test_ranker_shown_one_kind_of_feedback_is_left_out_and_named(
    warehouse: arrow.Warehouse,
) -> None:
    """As of a log without watch times: every viewing is complete. The day before had some, so the night is held."""
    shown = warehouse.read("exposures", day=DAY).drop_columns(["day"])
    at = shown.schema.get_field_index("feedback")
    positive = pa.array(["positive"] * shown.num_rows, pa.string())
    warehouse.write("exposures", shown.set_column(at, "feedback", positive), day=DAY)
    fit_and_select(DAY, "trial")
    with pytest.raises(GateHeld, match=r"1 failed: collapsed_sources .*: ranked_by_multi_trend\)"):
        call("evaluate_sources", DAY)
    fit_and_select(DAY, "final")
    call("select_recommendations", DAY)
    mute = {"day": DAY, "source": "ranked_by_multi_trend"}
    assert [warehouse.count("candidates", fit=fit, **mute) for fit in ("trial", "final")] == [0, 0]
    gates = warehouse.read("gate_results", day=DAY, fit="trial").to_pylist()
    by_name = {row["gate"]: row for row in gates}
    assert by_name["dead_sources"]["status"] == "pass"
    named = "ranked_by_multi_trend (needs feedback that is not positive)"
    assert named in by_name["absent_models"]["detail"]
    assert warehouse.read("recommendations", day=DAY).num_rows > 0
    assert not verdict(warehouse).differences


UNDERNEATH = {
    "shuffled artefact",
    "shuffled candidates",
    "shuffled candidates of a ranker",
    "constant scores",
    "constant scores, right order",
}
"""What spoils that of which the lists of segments are made, too."""


@pytest.mark.parametrize("name", SABOTAGES)
def test_oracle_sabotage_holds_the_night(
    warehouse: arrow.Warehouse, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named are exactly the users whose rows are not what they were."""
    before, said = lists(warehouse), []
    real = compare.check

    def check(*arguments: Any) -> compare.Verdict:
        said.append(real(*arguments))
        return said[0]

    monkeypatch.setattr(compare, "check", check)
    SABOTAGES[name](warehouse)
    with pytest.raises(GateHeld, match=r"fit=oracle.*brute force") as held:
        call("check_recommendations", DAY)
    changed, found = differing(before, lists(warehouse)), set(said[0].differences)
    logger.info("%s: changed %d, found %d", name, len(changed), len(found))
    if name == "shuffled artefact":
        assert not changed, "it was shuffled after the lists were made"
        assert len(found) > N_USERS / 2 < said[0].n_unlike["content"]
    else:
        assert found == changed
    users = warehouse.read("users", day=DAY)
    user_idx = dict(zip(users["user_id"].to_pylist(), users["user_idx"].to_pylist(), strict=True))
    label = {
        "list of a suppressed user": "a user who is to have none:",
        "a list with profiling": "a user without profiling:",
        "evidence without profiling": "a user without profiling:",
    }.get(name, f"user_idx {user_idx[min(found)]}")
    assert f"{label} rank" in str(held.value)
    assert not [user_id for user_id in found if user_id in str(held.value)], "a chat gets it"
    row, beside, part = judged(warehouse)
    assert (beside["gate"], beside["status"]) == ("similar_videos", "pass")
    assert part["status"] == ("fail" if name in UNDERNEATH else "pass")
    assert (row["severity"], row["status"]) == ("hold", "fail")
    assert row["observed"] == pytest.approx(1 - len(found) / said[0].n_users)


@pytest.mark.parametrize("name", ["swapped", "of another video"])
def test_oracle_similar_videos_of_something_else_hold_the_night(
    warehouse: arrow.Warehouse, name: str
) -> None:
    rows = warehouse.read("similar_videos", day=DAY).to_pandas()
    assert {"fused", "behaviour"} < set(rows["kind"])
    assert {"author", "popular", "behaviour"} <= set(rows["source"])
    behaviour = rows[rows["kind"] == "behaviour"]
    one, other = sorted(set(behaviour["video_id"]))[:2]
    if name == "swapped":
        names = ["similar_video_id", "evidence_viewers", "evidence_modality"]
        first = behaviour.index[behaviour["video_id"] == one][:2]
        rows.loc[first, names] = rows.loc[first[::-1], names].to_numpy()
    else:
        swapped = rows["video_id"].map({one: other, other: one})
        rows["video_id"] = swapped.fillna(rows["video_id"])
    whole = pa.Table.from_pandas(rows.drop(columns="day"), preserve_index=False)
    schema = warehouse.table("similar_videos").contract.schema
    whole = whole.cast(pa.schema([schema.field(name) for name in whole.column_names]))
    warehouse.write("similar_videos", whole, day=DAY)
    with pytest.raises(GateHeld, match=rf"similar_videos \(.*{one}: published"):
        call("check_recommendations", DAY)
    results = warehouse.read("gate_results", day=DAY, fit="oracle").to_pylist()
    assert {row["gate"]: row["status"] for row in results} == {
        "oracle": "pass",
        "segment_lists": "pass",
        "similar_videos": "fail",
    }


def test_oracle_lists_of_segments_are_whole_and_of_their_videos(warehouse: arrow.Warehouse) -> None:
    rows = warehouse.read("segment_recommendations", day=DAY).to_pandas()
    number = rows["video_id"].str[1:].astype(int)
    assert set(rows["segment"]) == {"surface=search", "tag=odd"}, "feed is the main surface"
    assert (number[rows["segment"] == "surface=search"] % 3 == 0).all()
    assert (number[rows["segment"] == "tag=odd"] % 2 == 1).all()
    assert (rows.groupby(["user_id", "segment"]).size() == K).all()
    own = rows["source"] != "segment"
    assert {True, False} == set(own)
    assert rows.loc[own, "source_rank"].notna().all()
    assert (rows.loc[~own, "reason"] == "popular here").all()
    users = set(rows["user_id"])
    assert not users & {*UNPROFILED, "u0007"}, "who wants no profiling, and who has opted out"
    assert "u0003" not in set(rows.loc[rows["segment"] == "tag=odd", "user_id"]), "has blocked it"
    fallback = warehouse.read("fallback_recommendations", day=DAY).to_pandas()
    assert {"surface=search", "tag=odd"} < set(fallback["segment"])


def spoilt(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The lists of segments, one of them wrong."""
    on_search = rows["segment"] == "surface=search"
    one = rows["user_id"] == rows.loc[on_search, "user_id"].min()
    first = rows.index[one & on_search][:2]
    match name:
        case "swapped":
            names = ["video_id", "source", "source_rank"]
            rows.loc[first, names] = rows.loc[first[::-1], names].to_numpy()
        case "of another source":
            rows.loc[first[:1], ["source", "source_rank"]] = ["content", 99]
        case "of another segment":
            rows = rows.replace({"segment": {"surface=search": "surface=sofa"}})
        case "another score":
            rows.loc[first[:1], "score"] *= 1.0001
        case "missing":
            rows = rows.drop(index=rows.index[one])
        case "of a user who is to have none":
            rows.loc[one, "user_id"] = "u0013"
    return rows


@pytest.mark.parametrize(
    "name",
    [
        "swapped",
        "of another source",
        "of another segment",
        "another score",
        "missing",
        "of a user who is to have none",
    ],
)
def test_oracle_lists_of_segments_that_are_wrong_hold_the_night(
    warehouse: arrow.Warehouse, name: str
) -> None:
    rows = spoilt(warehouse.read("segment_recommendations", day=DAY).to_pandas(), name)
    schema = warehouse.table("segment_recommendations").contract.schema
    whole = pa.Table.from_pandas(rows.drop(columns="day"), preserve_index=False)
    whole = whole.cast(pa.schema([schema.field(column) for column in whole.column_names]))
    warehouse.write("segment_recommendations", whole, day=DAY)
    with pytest.raises(GateHeld, match=r"segment_lists \(.*published") as held:
        call("check_recommendations", DAY)
    assert not [user_id for user_id in set(rows["user_id"]) if user_id in str(held.value)]
    _, beside, part = judged(warehouse)
    assert (beside["status"], part["status"], part["severity"]) == ("pass", "fail", "hold")


def test_publish_release_without_or_held_by_the_oracle_is_refused(
    warehouse: arrow.Warehouse,
) -> None:
    with pytest.raises(MissingDay, match=r"gate_results.*oracle"):
        call("publish_release", DAY)
    two_rows_swapped(warehouse)
    with pytest.raises(GateHeld):
        call("check_recommendations", DAY)
    with pytest.raises(GateHeld, match="fit=oracle"):
        call("publish_release", DAY)


SEARCHED = "[candidates.retrieval]\nexact_up_to = 50\nsampled = 20\n"


def test_oracle_index_search_is_compared_with_exact_lists(
    warehouse: arrow.Warehouse,
) -> None:
    settings().recipe.write_text(RECIPE + LEARNED + SEARCHED)
    call("select_candidates", DAY, fit="final", model="content")
    call("check_recommendations", DAY)
    judged = {row["gate"]: row for row in warehouse.read("gate_results", day=DAY).to_pylist()}
    assert judged["recall_content"]["status"] == "pass"
    assert judged["recall_content"]["observed"] > 0.99
    assert "recall_popularity" not in judged, "of one dimension"
    remade(without_the_first(warehouse), "content")(warehouse)
    with pytest.raises(GateHeld, match="recall_content"):
        call("check_recommendations", DAY)
    judged = {row["gate"]: row for row in warehouse.read("gate_results", day=DAY).to_pylist()}
    assert judged["oracle"]["status"] == "pass", "what is listed is true"
    assert 0.9 < judged["recall_content"]["observed"] < 0.99
    remade(constant, "content")(warehouse)
    assert verdict(warehouse).n_unlike["content"] > N_USERS / 2, "what is listed is not true"


def without_the_first(warehouse: arrow.Warehouse) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """What an index gives that misses everybody's best video: the lists are as long as before."""
    known = fit_tables.read(Night.open(DAY)).knowledge
    model = fitted.load(warehouse.find_artefact(day=DAY, fit="final", model="content"))

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        users, config = rows["user_idx"].unique(), retrieval.Config()
        longer = retrieval.best(model, users=users, known=known, k=2 * K + 1, config=config)
        kept = longer.to_pandas().query("rank > 1")
        return kept.assign(rank=kept["rank"] - 1)

    return change


def test_oracle_sample_same_seed_draws_the_same_distinct_users() -> None:
    ids = [f"u{user}" for user in range(50)] * 3
    some = [compare.draw_users(ids, 20, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert some[0] == some[1] != some[2]
    assert len(set(some[0])) == 20
    assert compare.draw_users(ids, 80, np.random.default_rng(1)) == sorted(set(ids))


def test_oracle_no_users_to_compare_fails() -> None:
    judged = compare.agreement_gate(compare.Verdict({}, 0, {}))
    assert (judged.status, judged.observed) == ("fail", None)


def test_oracle_draw_at_a_border_accepts_both_videos(
    warehouse: arrow.Warehouse,
) -> None:
    """A little further only one is."""
    users = ["u0001"]
    known = oracle_inputs.read(Night.open(DAY), users, inputs.Config())
    user = known.user_idx["u0001"]
    settled, _, _ = compare.settle(known, [user])
    known = replace(known, cluster=list(range(N_VIDEOS)))
    made = partial(
        compare.possible_lists,
        user=user,
        settled=settled[user],
        rungs=oracle_lists.ladder(known),
    )

    def explored(uniform: float) -> list[list[oracle_lists.Row]]:
        numbers = known.uniform.copy()
        numbers[user] = uniform
        return list(made(replace(known, uniform=numbers)))

    grid = np.linspace(0, 1, 50, endpoint=False)
    first = [explored(uniform)[0] for uniform in grid]
    at = next(i for i in range(49) if first[i] != first[i + 1])
    low, high = grid[at], grid[at + 1]
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if explored(middle)[0] == first[at] else (low, middle)
    assert explored(low)[0] != explored(high)[0]
    assert explored(low)[0] in explored(high)
    assert explored(high)[0] in explored(low)
    assert explored(high)[0] not in explored(low - 1e-3)


def test_oracle_shows_new_videos_to_the_share_of_users(warehouse: arrow.Warehouse) -> None:
    """As to all, with the numbers below the share stretched to 1, and a propensity that much lower."""
    known = oracle_inputs.read(Night.open(DAY), ["u0001"], inputs.Config())
    user = known.user_idx["u0001"]
    settled, _, _ = compare.settle(known, [user])
    rows = oracle_lists.fill(settled[user], known, user, oracle_lists.ladder(known), known.rules.k)
    some = replace(known, explored_share=0.25)
    for number in (0.25, 0.7):
        assert oracle_lists.explore(rows, some, user, number) == rows
    for number in (0.0, 0.1, 0.2499):
        of_some = oracle_lists.explore(rows, some, user, number)
        of_all = oracle_lists.explore(rows, known, user, number / 0.25)
        assert [replace(row, propensity=1.0) for row in of_some] == [
            replace(row, propensity=1.0) for row in of_all
        ]
        shown = [
            (mine, other)
            for mine, other in zip(of_some, of_all, strict=True)
            if mine.source == "exploration"
        ]
        assert shown
        for mine, other in shown:
            assert mine.propensity == pytest.approx(0.25 * other.propensity)


def scores(score: list[float], slack: list[float] | float = 0.01) -> SourceScores:
    """All videos may be proposed."""
    everything = np.ones(len(score), dtype=np.bool_)
    return SourceScores(
        np.array(score), np.broadcast_to(slack, len(score)).copy(), everything, everything
    )


def stored(videos: list[int], score: list[float]) -> Stored:
    return Stored(np.array(videos, dtype=np.int64), np.array(score)[videos])


SCORE = [0.9, 0.895, 0.5, 0.505, 0.1]


@pytest.mark.parametrize(
    ("videos", "right"),
    [
        ([0, 1, 3], True),
        ([1, 0, 3], True),  # within the slack of both
        ([0, 1, 2], True),  # the last place likewise
        ([0, 3, 1], False),  # surely better below
        ([0, 1, 4], False),  # surely better left out
        ([0, 1, 1], False),  # twice
        ([0, 1], False),  # too short
        ([0, 1, 3, 2], False),  # too long
    ],
)
def test_oracle_ties_within_slack_accept_either_order(videos: list[int], right: bool) -> None:
    assert sources.could_be(scores(SCORE), stored(videos, SCORE), 3) == right


def test_oracle_equal_scores_without_slack_follow_video_order() -> None:
    score = [0.5, 0.7, 0.5, 0.5]
    exact = scores(score, 0.0)
    assert sources.could_be(exact, stored([1, 0, 2], score), 3)
    assert not sources.could_be(exact, stored([1, 2, 0], score), 3)
    assert not sources.could_be(exact, stored([1, 0, 3], score), 3)
    assert sources.brute(exact, 3).tolist() == [1, 0, 2]


def test_oracle_stored_score_beyond_slack_is_refused() -> None:
    right = stored([0, 1, 3], SCORE)
    assert sources.could_be(scores(SCORE), right._replace(score=right.score + 0.009), 3)
    assert not sources.could_be(scores(SCORE), right._replace(score=right.score + 0.011), 3)


def test_oracle_forbidden_video_is_refused_and_its_absence_accepted() -> None:
    allowed = scores(SCORE).allowed(np.array([True, False, True, True, True]))
    assert not sources.could_be(allowed, stored([0, 1, 3], SCORE), 3)
    assert sources.could_be(allowed, stored([0, 3, 2], SCORE), 3)
    settled, same = sources.settle(allowed, stored([0, 1, 3], SCORE), 3)
    assert (settled.video.tolist(), same) == ([0, 3, 2], False)
    settled, same = sources.settle(allowed, stored([0, 2, 3], SCORE), 3)
    assert (settled.video.tolist(), same) == ([0, 2, 3], True), "the witness tells equals apart"


def test_oracle_sum_near_zero_may_be_absent() -> None:
    one = scores([0.9, 0.001, -0.001, -0.5])
    some = replace(one, must=one.score > one.slack, may=one.score > -one.slack)
    for videos, right in (([0], True), ([0, 2], True), ([0, 1, 2], True), ([0, 3], False)):
        assert sources.could_be(some, stored(videos, one.score.tolist()), 4) == right
    assert not sources.could_be(some, stored([1], one.score.tolist()), 4)


def test_oracle_trend_quota_ranks_before_scores() -> None:
    first, second = scores([0.9, 0.8, 0.7, 0.1]), scores([0.0, 0.1, 0.2, 0.5])
    both = replace(scores([0.9, 0.8, 0.7, 0.5]), quotas=((first, 1), (second, 1)))
    score = both.score.tolist()
    assert sources.brute(both, 2).tolist() == [0, 3]
    assert sources.could_be(both, stored([0, 3], score), 2)
    assert not sources.could_be(both, stored([0, 1], score), 2)
    assert not sources.could_be(both, stored([0, 2, 3], score), 3), "by score 1 comes before 2"


SEEDS = st.integers(0, 2**32 - 1)


@hypothesis.settings(max_examples=50)
@given(SEEDS, st.integers(1, 300), st.integers(1, 40))
def test_oracle_float32_lists_pass_and_wrong_lists_fail(seed: int, dim: int, k: int) -> None:
    """numpy's product of many users at a time, sorted, against float64 with the slack of a user."""
    rng = np.random.default_rng(seed)
    users = rng.standard_normal((5, dim)).astype(np.float32)
    videos = rng.standard_normal((30, dim)).astype(np.float32)
    videos[::3] = videos[1] + rng.standard_normal((10, dim)).astype(np.float32) * 1e-7
    known = np.ones(30, dtype=np.bool_)
    product = (users @ videos.T)[2].astype(np.float64)
    said = sources.by_vector(users[2], videos.astype(np.float64), known, tolerance=1e-5)
    order = np.lexsort((np.arange(30), -product))[:k]
    assert sources.could_be(said, Stored(order, product[order]), k)
    wrong = np.argsort(-product, kind="stable")[::-1][:k]
    gap = product.max() - product.min()
    assert gap <= 2 * said.slack.max() or not sources.could_be(
        said, Stored(wrong, product[wrong]), k
    )


@hypothesis.settings(max_examples=50)
@given(SEEDS, st.sampled_from([None, 0.3, 0.6]))
def test_oracle_likeness_and_clusters_equal_those_of_lists(
    seed: int, collapse: float | None
) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"v{video:02d}" for video in range(12)]
    directions = rng.normal(size=(4, 8))
    columns = [
        {
            "modality": name,
            "video_id": video_id,
            "vector": (directions[rng.integers(4)] * scale)[:n],
        }
        for name, n in (("visual", 8), ("tags", 3))
        for video_id, scale in zip(ids, rng.uniform(0, 9, 12), strict=True)
        if rng.random() < 0.8
    ]
    features = pa.table({name: [row[name] for row in columns] for name in columns[0]})
    nodes = {"video_idx": range(12), "video_id": ids, "author_id": pa.nulls(12, pa.string())}
    edges = pa.table(
        {"video_idx": rng.integers(0, 12, 60), "neighbour_idx": rng.integers(0, 12, 60)}
    )
    for centred, most in (((), 100), (("visual",), 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(likeness, "EXACT_UP_TO", most)
            patch.setattr(oracle_lists, "EXACT_UP_TO", most)
            right = likeness.likeness(
                features, pa.table(nodes), collapse=collapse, centred=centred, edges=edges
            )
            mine = inputs.vectors(features, ids, centred)
            assert oracle_lists.clusters(mine, collapse, edges) == right.cluster.tolist()
        every = mine.similarity(slice(0, 12), slice(0, 12))
        assert every.tolist() == right.within(np.arange(12)[None])[0].tolist()


@hypothesis.settings(max_examples=50)
@given(SEEDS, st.integers(0, 12), st.integers(1, 5), st.sampled_from([0.1, 0.5, 1.0]))
def test_oracle_chances_and_draws_equal_those_of_lists(
    seed: int, n_new: int, places: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    affinity = rng.integers(0, 9, size=n_new).astype(float)
    sharpness = float(rng.choice([0.5, 1.0, 2.0]))
    uniform = rng.random()
    allowed = np.ones((1, n_new), dtype=np.bool_)
    right = exploration.chances(
        affinity[None], allowed, places=places, uniform_share=share, sharpness=sharpness
    )
    worth = oracle_lists.by_place(affinity.tolist(), sharpness)
    chance = oracle_lists.inclusion(worth, places, share)
    assert chance == pytest.approx(right[0], abs=1e-12)
    drawn = exploration.draw(right, np.array([uniform]), places=places)[0]
    assert oracle_lists.draw(chance, uniform) == drawn[drawn >= 0].tolist()


CANDIDATES = {f"microrec.candidates.{room}" for room in ("lists", "ranking", "retrieval")}


def test_oracle_uses_of_candidates_only_configs_names_and_trees() -> None:
    """Else a mistake there would be made twice."""
    allowed = {"Config", "RUNGS", "SOURCE", "EXPLORED", "load"}
    allowed |= {"AUTHOR", "BEHAVIOUR", "FUSED", "POPULAR"}
    used = set()
    reading = (HOME / "microrec" / "pipeline").glob("oracle_*.py")
    for path in [*(HOME / "microrec" / "oracle").glob("*.py"), *reading]:
        tree = ast.parse(path.read_text())
        modules = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in CANDIDATES:
                modules |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and "candidates" in (node.module or ""):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom | ast.Import):
                assert not any("candidates" in alias.name for alias in node.names)
                assert not any(alias.name == "proposals" for alias in node.names)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in modules
            ):
                used.add(node.attr)
    assert "Config" in used
    assert used <= allowed
