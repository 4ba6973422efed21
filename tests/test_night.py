"""The night, end to end, on a planted world: what it makes, that it repeats, that it refuses, that nothing leaks."""

import datetime as dt
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from microrec.cli import app
from microrec.config import recipe
from microrec.config.settings import HOME, settings
from microrec.errors import LandingError
from microrec.landing import write
from microrec.models import registry
from microrec.models.inputs import graph_arrays
from microrec.models.sequence import exposures
from microrec.release import explanation, reader
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.benchmarks import similar
from tests.worlds.nights import call, run_night

pytestmark = [pytest.mark.spark, pytest.mark.slow]

DAYS, K = 6, 10
FIRST = dt.date(2026, 1, 1)
LAST = FIRST + dt.timedelta(days=DAYS - 1)
EARLIER = LAST - dt.timedelta(days=1)

RECIPE = f"""
[night]
window_days = 5
k = {K}
models = ["popularity", "content", "user_neighbours", "video_neighbours", "multi_trend"]
rankers = ["multi_trend", "clip_interest", "rates"]

[models.multi_trend]
dim = 16
max_epochs = 3

[models.clip_interest]
dim = 16
learning_rate = 0.003

[graphs.clips]
cut = "equal"
"""

TABLES = [
    "events",
    "rejected_rows",
    "videos",
    "video_features",
    "clip_features",
    "extractions",
    "text_encoders",
    "suppressed_users",
    "users",
    "video_nodes",
    "watch_edges",
    "modality_edges",
    "user_edges",
    "clip_edges",
    "exposure_counts",
    "exposures",
    "sequences",
    "models",
    "fusion_weights",
    "candidates",
    "recommendations",
    "fallback_recommendations",
    "similar_videos",
    "segment_recommendations",
    "rewatch_recommendations",
    "user_trends",
    "clip_interest",
    "exit_points",
    "blend_weights",
    "metrics",
    "gate_results",
]


def digests(day: dt.date) -> dict[str, str]:
    """Content of every table of a night; `events` by the day of arrival."""
    warehouse = Warehouse.open()
    return {
        t: warehouse.digest(t, **{"arrived_on" if t == "events" else "day": day}) for t in TABLES
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Iterator[dict[str, Any]]:
    """A landing zone, and the night of its last day."""
    place = tmp_path_factory.mktemp("night")
    patch = pytest.MonkeyPatch()
    (place / "recipe.toml").write_text(RECIPE)
    patch.setenv("MICROREC_WAREHOUSE", str(place / "warehouse"))
    patch.setenv("MICROREC_LANDING", str(place / "landing"))
    patch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    planted = generate(
        Config(users=150, videos=240, days=DAYS, first_day=FIRST), np.random.default_rng(3)
    )
    write.write_world(
        str(place / "landing"), planted.parts, truth=planted.truth.model_dump(mode="json")
    )
    run_night(LAST)
    yield {"place": place, "truth": planted.truth, "first": digests(LAST)}
    patch.undo()
    settings.cache_clear()


def test_night_rows_accepted_rejected_and_duplicate_as_planted(world: dict[str, Any]) -> None:
    warehouse, truth = Warehouse.open(), world["truth"]
    for number in range(1, DAYS):
        day = FIRST + dt.timedelta(days=number)
        rejected = warehouse.read(
            "rejected_rows", day=day, raw_table="raw_interactions"
        ).to_pandas()
        accepted = warehouse.read("events", arrived_on=day).num_rows
        withheld = sum(
            int(row["value"])
            for row in warehouse.read("metrics", day=day, stage="arrivals").to_pylist()
            if (row["name"], row["metric"]) == ("raw_interactions", "withheld")
        )
        delivered = sum(truth.delivered[day].values())
        assert accepted + withheld + len(rejected) == delivered
        assert accepted + withheld == truth.count(day, "accepted")
        assert (rejected["rule"] == "duplicate").sum() == truth.count(day, "duplicate")
        assert (rejected["rule"] == "too_late").sum() == truth.count(day, "too_late")


def test_night_lists_have_k_distinct_unseen_eligible_videos(world: dict[str, Any]) -> None:
    warehouse = Warehouse.open()
    lists = reader.of(LAST).to_pandas("recommendations")
    window = [LAST - dt.timedelta(days=back) for back in range(5)]
    events = pd.concat([warehouse.read("events", day=day).to_pandas() for day in window])
    suppressed = set(world["truth"].suppressed[LAST])
    expected = set(events["user_id"]) - suppressed
    assert set(lists["user_id"]) == expected
    ranks = lists.sort_values(["user_id", "rank"]).groupby("user_id")["rank"].agg(list)
    assert (ranks.map(lambda found: found == list(range(1, K + 1)))).all()
    assert not lists.duplicated(["user_id", "video_id"]).any()
    seen = set(zip(events["user_id"], events["video_id"], strict=True))
    assert not seen & set(zip(lists["user_id"], lists["video_id"], strict=True))
    assert not set(lists["video_id"]) & set(world["truth"].ineligible[LAST])
    ordered = lists.sort_values(["user_id", "rank"])
    assert (ordered.groupby("user_id")["score"].diff().dropna() <= 0).all()
    assert np.isfinite(lists["score"]).all()


def test_release_pins_existing_tables_and_beats_the_floor(world: dict[str, Any]) -> None:
    release = reader.latest()
    assert release.day == LAST
    release.verify()
    figures = release.to_pandas("metrics").query("stage == 'evaluation' and slice == 'all'")
    recall = figures[figures["metric"] == "recall@20"].set_index("name")["value"]
    assert recall["blend"] > recall["popularity"] > 0
    gates = Warehouse.open().read("gate_results", day=LAST).to_pandas()
    assert set(gates["fit"]) == {"arrivals", "trial", "final", "oracle"}
    assert (gates.query("severity == 'hold'")["status"] == "pass").all()


@pytest.mark.parametrize("fit", ["trial", "final"])
@pytest.mark.parametrize("model", ["multi_trend", "clip_interest", "rates"])
def test_ranking_model_orders_candidates_of_all_sources(
    fit: str, model: str, world: dict[str, Any]
) -> None:
    """Each user's list against the network, asked for that user alone."""
    warehouse, night = Warehouse.open(), recipe.current().night
    found = warehouse.read("candidates", day=LAST, fit=fit, source=f"ranked_by_{model}").to_pandas()
    lists = pd.concat(
        warehouse.read("candidates", day=LAST, fit=fit, source=source).to_pandas()
        for source in night.models
    )
    assert set(found["user_idx"]) == set(lists["user_idx"])
    needed = graph_arrays.reads(registry.card(model).reads, fit)
    tables = {name: warehouse.read(name, day=LAST, **part) for name, part in needed.items()}
    graph = graph_arrays.build_graph(tables, fit=fit)
    (row,) = warehouse.read("models", day=LAST, fit=fit, model=model).to_pylist()
    folder = warehouse.open_artefact(row["path"], row["digest"])
    network = exposures.load(model, folder, graph, device="cpu")
    for user in sorted(set(found["user_idx"]))[::20]:
        proposed = np.unique(lists[lists["user_idx"] == user]["video_idx"]).astype(np.int64)
        one = registry.model(model).scores(network, graph, np.full(len(proposed), user), proposed)
        scores = dict(zip(proposed.tolist(), one.tolist(), strict=True))
        mine = found[found["user_idx"] == user].sort_values("rank")
        assert len(mine) == min(len(proposed), night.k * night.overfetch)
        listed = [scores[video] for video in mine["video_idx"]]
        assert listed == pytest.approx(mine["score"].tolist(), abs=1e-4)
        left_out = set(scores) - set(mine["video_idx"])
        assert all(scores[video] <= min(listed) + 1e-4 for video in left_out)
        assert (mine["score"].diff().dropna() <= 0).all()


def test_worth_of_each_source_is_told(world: dict[str, Any]) -> None:
    warehouse = Warehouse.open()
    metrics = warehouse.read("metrics", day=LAST, stage="evaluation").to_pandas()
    worth = metrics[metrics["metric"] == "worth_ndcg@20"].set_index("name")
    assert set(worth.index) == set(recipe.current().night.sources)
    weights = warehouse.read("fusion_weights", day=LAST, fit="trial").to_pandas()
    heaviest = weights[weights["fold"] > 0].groupby("source")[["cold", "warm"]].max().max(axis=1)
    assert (worth.loc[heaviest.index[heaviest == 0], "value"] == 0).all()
    assert worth["value"].max() > 0
    assert (worth["low"] <= worth["value"]).all()
    assert (worth["value"] <= worth["high"]).all()


def test_trends_cover_everyone_served(world: dict[str, Any]) -> None:
    rows = reader.latest().to_pandas("user_trends")
    suppressed = set(world["truth"].suppressed[LAST])
    warehouse = Warehouse.open()
    users = warehouse.read("users", day=LAST).to_pandas().set_index("user_idx")["user_id"]
    sequences = warehouse.read("sequences", day=LAST).to_pandas()
    last = sequences[sequences["cut_at"] == sequences["cut_at"].max()]
    known = last[last["history"].str.len() + last["future"].str.len() > 0]
    assert set(rows["user_id"]) == set(users.loc[known["user_idx"]]) - suppressed
    assert rows.groupby("user_id")["weight"].sum().to_numpy() == pytest.approx(1.0)
    assert not {v for some in rows["videos"] for v in some} & set(world["truth"].ineligible[LAST])
    end = pd.Timestamp(LAST + dt.timedelta(days=1), tz="UTC")
    assert (rows["latest_at"] < end).all()
    assert (rows["valid_until"] > end).all()
    assert rows["tags"].str.len().max() > 0


def test_clip_interest_drops_where_planted_viewers_leave(world: dict[str, Any]) -> None:
    """A quarter loses more of its viewers in the videos whose weak quarter it is; in two cases: it
    was reached, and nobody has reached it yet but it looks like a weak one."""
    release, weak = reader.latest(), world["truth"].weak_clip
    rows = release.to_pandas("clip_interest")
    assert not set(rows["video_id"]) & set(world["truth"].ineligible[LAST])
    assert (rows.groupby("video_id")["clip_no"].count() == 4).all()
    is_weak = rows["video_id"].map(weak) == rows["clip_no"]
    reached = rows["n_reached"] >= 5
    for clip_no in (1, 2, 3):
        here = reached & (rows["clip_no"] == clip_no)
        hazard = rows[here].groupby(is_weak[here])["skip_hazard"].mean()
        assert hazard[True] > 1.5 * hazard[False]
    observed = rows[reached]
    assert (observed["skip_hazard"] - observed["n_left"] / observed["n_reached"]).abs().mean() < 0.2
    exits = release.to_pandas("exit_points")
    assert set(exits["segment"]) == {"__global__", "leaves_early", "typical", "stays"}
    watched = exits.groupby("segment")["expected_watch_ms"].mean()
    assert watched["leaves_early"] < watched["typical"] < watched["stays"]


def test_similar_videos_share_the_planted_cluster(world: dict[str, Any]) -> None:
    """One in `n` would by chance; what the same people like next is beside what they liked last."""
    cluster = world["truth"].video_cluster
    rows = reader.of(LAST).to_pandas("similar_videos")
    same = rows["video_id"].map(cluster) == rows["similar_video_id"].map(cluster)
    chance = pd.Series(cluster).value_counts(normalize=True).pow(2).sum()
    of_kind = same.groupby(rows["kind"]).mean()
    assert of_kind["fused"] > 2 * chance
    assert of_kind["behaviour"] > 2 * chance
    where = ["--warehouse", str(Warehouse.open().root), "--recipe", str(settings().recipe)]
    figures = similar.main([*where, "--day", str(LAST)])
    assert figures["fused"][0] > figures["popular"][0]


def test_night_repeated_gives_the_same_rows(world: dict[str, Any]) -> None:
    pins = {name: pin.digest for name, pin in reader.of(LAST).tables.items()}
    run_night(LAST)
    assert digests(LAST) == world["first"]
    assert {name: pin.digest for name, pin in reader.of(LAST).tables.items()} == pins


def test_night_of_an_earlier_day_moves_no_other_release(world: dict[str, Any]) -> None:
    before = reader.latest()
    run_night(EARLIER)
    assert reader.of(EARLIER).day == EARLIER
    assert reader.latest() == before
    assert digests(LAST) == world["first"]
    before.verify()


def test_trial_models_exclude_the_held_out_day(world: dict[str, Any]) -> None:
    """The leak canary: turn every signal of the last day around; what was trained without it must not change."""
    place: Path = world["place"]
    warehouse = Warehouse.open()
    names = ["popularity", "content", "user_neighbours", "video_neighbours"]
    before = {
        n: warehouse.read("models", day=LAST, fit="trial", model=n)["digest"][0].as_py()
        for n in names
    }
    lists = {n: warehouse.digest("candidates", day=LAST, fit="trial", source=n) for n in names}
    sings = warehouse.read("models", day=LAST, fit="final", model="popularity")["digest"][0].as_py()
    edges = warehouse.read("watch_edges", day=LAST, split="holdout")
    flipped = edges.drop_columns(["day", "split"]).to_pandas()
    flipped[["n_positive", "n_negative"]] = flipped[["n_negative", "n_positive"]].to_numpy()
    flipped["weight"] = 9.0
    schema = pa.schema([f for f in edges.schema if f.name not in ("day", "split")])
    version = warehouse.version("watch_edges")
    warehouse.write(
        "watch_edges",
        pa.Table.from_pandas(flipped, schema=schema, preserve_index=False),
        day=LAST,
        split="holdout",
    )
    try:
        for name in names:
            call("train_model", LAST, fit="trial", model=name)
            after = warehouse.read("models", day=LAST, fit="trial", model=name)["digest"][0].as_py()
            assert after == before[name]
            call("select_candidates", LAST, fit="trial", model=name)
            assert warehouse.digest("candidates", day=LAST, fit="trial", source=name) == lists[name]
        call("train_model", LAST, fit="final", model="popularity")
        final = warehouse.read("models", day=LAST, fit="final", model="popularity")["digest"][
            0
        ].as_py()
        assert final != sings, "the canary itself must be able to sing"
    finally:
        back = warehouse.read("watch_edges", day=LAST, split="holdout", version=version)
        warehouse.write(
            "watch_edges", back.drop_columns(["day", "split"]), day=LAST, split="holdout"
        )
        call("train_model", LAST, fit="final", model="popularity")
    assert place.exists()


def test_night_without_raw_rows_is_refused_and_the_release_stays(world: dict[str, Any]) -> None:
    before = reader.latest()
    tomorrow = LAST + dt.timedelta(days=1)
    with pytest.raises(LandingError, match=f"raw_interactions.*{tomorrow}"):
        call("validate_events", tomorrow)
    assert reader.latest() == before
    before.verify()


def test_night_truncated_file_is_refused_and_the_release_stays(world: dict[str, Any]) -> None:
    before = reader.latest()
    tomorrow = LAST + dt.timedelta(days=1)
    landing_root = world["place"] / "landing" / "raw_interactions"
    folder = landing_root / f"day={tomorrow}"
    source = next(
        path for path in sorted(landing_root.glob("day=*/*")) if path.name.endswith(".gz")
    )
    folder.mkdir()
    (folder / source.name).write_bytes(source.read_bytes()[:-100])
    try:
        with pytest.raises(LandingError, match=source.name):
            call("validate_events", tomorrow)
    finally:
        shutil.rmtree(folder)
    assert reader.latest() == before
    assert not Warehouse.open().exists("rejected_rows", day=tomorrow)


def test_pages_python_runs_as_printed(world: dict[str, Any]) -> None:
    pages = [HOME / "README.md", HOME / "schemas" / "README.md"]
    text = "".join(page.read_text() for page in pages)
    printed = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    # Spark's are run by the tests of the tables: it is another reader, and its Delta package is not here.
    printed = [block for block in printed if "spark" not in block]
    assert len(printed) == 10
    warehouse = str(world["place"] / "warehouse")
    names: dict[str, Any] = {}
    for block in printed:
        exec(block.replace("var/world/warehouse", warehouse), names)
    assert names["release"].day == LAST
    assert names["version"] == names["release"].tables["recommendations"].version


def test_explanations_name_what_their_user_has_liked(world: dict[str, Any]) -> None:
    """A sentence that says "you liked" is checked against the log, not against what made the list."""
    release = reader.latest()
    watches = Warehouse.open().read("daily_watches").to_pandas()
    liked = watches[watches["n_positive"] > 0].groupby("user_id")["video_id"].agg(set)
    lists = release.to_pandas("recommendations")
    by_evidence = lists[lists["evidence_video_id"].notna()].groupby("source").head(5)
    assert set(by_evidence["source"]) & {"content", "video_neighbours"}
    for row in by_evidence.itertuples():
        explained = explanation.explain(release, row.user_id, row.rank)
        assert row.evidence_video_id in liked[row.user_id]
        assert any(f"You liked {row.evidence_video_id}," in said for said in explained.sentences)
        assert sum(explained.parameters.values()) == pytest.approx(1, abs=1e-3)


def test_cli_commands_print_what_a_reader_expects(world: dict[str, Any]) -> None:
    def typed(*words: str) -> str:
        outcome = CliRunner().invoke(
            app.app, [*words, "--warehouse", str(world["place"] / "warehouse")]
        )
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    someone = reader.latest().read("recommendations")["user_id"][0].as_py()
    listing = typed("show", "recommendations", "--user", someone, "--limit", "3")
    assert f"recommendations: {K} rows" in listing
    assert listing.count(someone) == 3
    assert str(LAST) in typed("releases")
    assert "place 2 of" in typed("explain", "--user", someone, "--rank", "2")
    assert "users:" in typed("show", "users", "--day", str(LAST))
    edges = typed("show", "watch_edges", "--day", str(LAST), "--user", someone)
    assert "watch_edges:" in edges


def test_world_truth_lies_beside_the_landing_root(world: dict[str, Any]) -> None:
    truth = json.loads((world["place"] / "landing" / "_truth" / "truth.json").read_text())
    assert len(truth["video_cluster"]) == 240
