"""The benchmarks run at their smallest size and find our results right; no time is asserted."""

import argparse
import contextlib
import datetime as dt
import gzip
import hashlib
import importlib.util
import itertools
import json
import math
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from microrec.candidates.ranking import learned_blend as hybrid_candidates
from microrec.candidates.retrieval import exact
from microrec.config import recipe
from microrec.config.settings import settings
from microrec.core.fitted import Embeddings, Trained
from microrec.errors import GateHeld, RecipeError
from microrec.evaluation import gate, ranking
from microrec.evaluation.report import FLOOR
from microrec.landing import write
from microrec.models import registry
from microrec.models.inputs.clip_arrays import ClipEdges
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.sequence.auc import grouped_auc
from microrec.pipeline.night import Night
from microrec.release.reader import RESULTS
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.benchmarks import (
    blend,
    clip_viewers,
    clips,
    delta_log,
    erasure,
    exports,
    exposures,
    factorization,
    features,
    gates,
    graphs,
    hybrid,
    kuairand,
    kuairand_nights,
    measure,
    night_peer,
    nights,
    people,
    quality,
    readers,
    remembered,
    retention,
    scale,
    segments,
    sequences,
    services,
    spaces,
    tiktok,
    tiktok_blend,
    training,
    trends,
)
from tests.benchmarks import night as whole_night
from tests.benchmarks import ranking as many_users
from tests.release.readers import publish as publish_row_of_each
from tests.worlds import chains, small_tables
from tests.worlds import clips as clip_worlds
from tests.worlds import people as people_worlds
from tests.worlds import trends as trend_worlds


def figures(out: Path, metric: str) -> dict[tuple[str, str], Any]:
    rows = json.loads((out / "results.json").read_text())
    return {
        (one["benchmark"], one["name"]): one["value"] for one in rows if one["metric"] == metric
    }


def test_kernels_smallest_size_run_with_a_peer(tmp_path: Path) -> None:
    graphs.main(
        ["--scale", "smoke", "--stage", "pearson", "modality", "knobs", "--runs", "1", "--out", str(tmp_path),
"--only", "microrec kernel,microrec exact,approximate,numpy,exact,hub_cap=100"]
    )  # fmt: skip
    equal, kept = figures(tmp_path, "equal"), figures(tmp_path, "recall@50")
    assert equal["pearson", graphs.KERNEL] == equal["modality", graphs.COSINE] == 1
    assert equal["pearson", "peer: numpy dense"] == 1
    assert figures(tmp_path, "recall@20")["modality", "microrec approximate"] > 0.9
    assert kept["knobs", "exact"] == 1
    assert (tmp_path / "results.md").read_text().startswith("# Graph benchmarks")


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.long
def test_stages_smallest_size_run(tmp_path: Path) -> None:
    graphs.main(["--scale", "smoke", "--stage", "spark", "--runs", "1", "--out", str(tmp_path)])
    equal = figures(tmp_path, "equal")
    assert equal["spark", graphs.EXACT] == equal["spark", graphs.PROCESS] == 1


def test_many_users_every_method_ranks_right(tmp_path: Path) -> None:
    sizes = ["--videos", "700", "--dim", "8", "--k", "20", "--slice", "150"]
    size = ["--threads", "1", "--runs", "1", "--whole", "--users", "300"]
    many_users.main([*sizes, *size, "--out", str(tmp_path)])
    right = figures(tmp_path, "right")
    assert {name for _, name in right} == {
        *("microrec", "microrec, dense", "peer: torch product and topk", "peer: faiss flat"),
        many_users.SEARCHED,
        many_users.WRITTEN,
    }
    alike = figures(tmp_path, "as microrec")
    for (split, name), share in figures(tmp_path, "found").items():
        if name == many_users.SEARCHED:
            assert min(share, alike[split, name]) >= many_users.LEAST
        else:
            assert (share, right[split, name], alike.get((split, name), 1.0)) == (1.0, 1.0, 1.0)
    assert right["whole", many_users.WRITTEN] == 1.0
    assert figures(tmp_path, "rows") == {("whole", many_users.WRITTEN): 300 * 20}


def test_many_users_seen_video_or_other_score_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "TILED", exact.TILED)  # which the way below sets
    world = many_users.planted(30, 400, 8)
    truth = many_users.Truth(world, np.arange(30), 10)
    found = many_users.dense(world, k=10, threads=1)
    assert truth.right(found) == 1
    scores = found["score"].copy()
    scores[5] *= 1.001
    assert truth.right({**found, "score": scores}) == 299 / 300
    unmasked = world._replace(seen=world.seen * 0)
    unmasked.seen.eliminate_zeros()
    wrong = many_users.dense(unmasked, k=10, threads=1)
    assert truth.right(wrong) < 0.9
    assert many_users.shared(found, wrong) < many_users.shared(found, found) == 1


def test_training_step_equals_pyg(tmp_path: Path) -> None:
    command = ["--scale", "smoke", "--runs", "1", "--only", "PyG", "RecBole"]
    training.main([*command, "--out", str(tmp_path)])
    kind, peer = training.BENCHMARK, "peer: PyG"
    for metric in ("losses differ", "rows differ"):
        assert figures(tmp_path, metric)[kind, peer] < training.CLOSE
    losses = figures(tmp_path, "last loss")
    assert losses[kind, peer] == pytest.approx(losses[kind, training.OURS], rel=training.CLOSE)
    if importlib.util.find_spec("recbole") is None:
        assert "not installed: recbole" in (tmp_path / "results.md").read_text()
    else:
        assert losses[kind, "peer: RecBole"] == pytest.approx(losses[kind, peer])


def test_training_peer_that_learns_otherwise_is_noticed() -> None:
    rows = np.ones((3, 2))
    found = {
        name: [measure.Outcome(edges={"loss": np.array([0.7, loss]), "rows": rows * moved})]
        for name, loss, moved in (("microrec", 0.6, 2), ("peer: a", 0.6, 2), ("peer: b", 0.63, 1.9))
    }
    gaps = training.differences(found, rows)
    assert gaps["peer: a"] == {"losses": 0, "rows": 0}
    assert gaps["peer: b"] == pytest.approx({"losses": 0.05, "rows": 0.1})


def test_prices_of_planted_work_are_recovered() -> None:
    generator = np.random.default_rng(3)
    units = generator.uniform(1, 1e9, size=(8, 3))
    true = np.array([2e-9, 0.0, 5e-10])
    assert scale.prices(units, units @ true) == pytest.approx(true, rel=1e-6, abs=1e-15)


def test_work_counts_pairs_and_words() -> None:
    viewers = np.array([600.0, 90.0, 10.0, 10.0])
    # More than 5 % of 1,000 users: two videos, in one group of four words of 16.
    assert scale.work(viewers, 1000)[:3].tolist() == [1e6, 4e6, 200.0]


def tiktok_files(folder: Path) -> Path:
    """Users and videos of three tastes, in the form of the TikTok files, with a test file.

    Of 39 users, 0 to 29 have one video in val and 30 to 35 one in the test file; 29 has six there.
    """
    generator = np.random.default_rng(1)
    taste, rows, held = np.arange(30) % 3, [], []
    for user in range(39):
        own = generator.permutation(np.flatnonzero(taste == user % 3))[:4].tolist()
        rows += [(user, video, "train") for video in own[:3]]
        rows += [(user, own[3], "val")] if user < 30 else []
        held += [(user, own[3])] if 30 <= user < 36 else []
        later = np.setdiff1d(np.flatnonzero(taste == user % 3), own)
        held += [(user, int(video)) for video in later] if user == 29 else []
    user, video, split = zip(*rows, strict=True)
    pq.write_table(
        pa.table({"user_id": user, "item_id": video, "split": split}),
        folder / "interactions.parquet",
    )
    vectors = np.eye(3)[taste] + 0.1 * generator.standard_normal((30, 3))
    features = {}
    for modality in tiktok.MODALITIES:
        flat = pa.array(vectors.ravel(), pa.float32())
        features[modality] = pa.FixedSizeListArray.from_arrays(flat, 3)
        vectors[7] = 0  # missing in the second one
    items = pa.table({"item_id": np.arange(30), **features})
    pq.write_table(items.take(generator.permutation(30)), folder / "item_features.parquet")
    held += [held[0], (31, 999), (0, rows[0][1]), (77, 4)]  # double, unknown, seen, a stranger
    user, video = zip(*held, strict=True)
    pq.write_table(pa.table({"user_id": user, "item_id": video}), folder / "test.parquet")
    return folder


def told(out: Path) -> dict[tuple[str, str, str], Any]:
    rows = json.loads((out / "results.json").read_text())
    return {(one["name"], one["metric"], one["split"]): one for one in rows}


def test_tiktok_smallest_size_runs(tmp_path: Path) -> None:
    data = tiktok_files(tmp_path)
    models = ["popularity", "video_neighbours", "hybrid", "preference_gcn"]
    command = ["--data", str(data), "--models", ",".join(models), "--budget", "2", "--seeds", "2"]
    tiktok.main([*command, "--test", str(data / "test.parquet"), "--out", str(tmp_path / "out")])
    found = told(tmp_path / "out")
    for model in models:
        for name, split in ((model, "val"), (model, "test"), (model + tiktok.REFIT, "test")):
            one = found[name, "recall@20", split]
            assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
            assert one["seeds"] == (2 if model == "preference_gcn" else 1)
            assert ((name, "recall@20 sd", split) in found) == (model == "preference_gcn")
    ranks = {model: found[model, "mrr@20", "val"]["value"] for model in models}
    assert ranks["video_neighbours"] > ranks["popularity"] + 0.1, "tastes are planted"
    assert found["published: MMSSL", "ndcg@20", "test (published)"]["value"] == 0.0392
    tried = json.loads((tmp_path / "out" / "tuning.json").read_text())
    counts = Counter(one["model"] for one in tried)
    assert counts == {"popularity": 1} | dict.fromkeys(models[1:], 2)
    assert Counter(one["model"] for one in tried if one["chosen"]) == dict.fromkeys(models, 1)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "Evaluated on test: all 8, " in text
    assert "3 rows of the file left out" in text
    again = [
        *command,
        "--tuned",
        str(tmp_path / "out" / "tuning.json"),
        "--out",
        str(tmp_path / "b"),
    ]
    tiktok.main(again)
    later = told(tmp_path / "b")
    assert all(later[key]["value"] == found[key]["value"] for key in later if "seconds" not in key)


def test_tiktok_blend_smallest_size_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold holds out one video of each user, and what a source proposes is never a seen one."""
    world = tiktok.read(tiktok_files(tmp_path))
    inner = tiktok_blend.fold(world, np.random.default_rng(0), most=3)
    held, train = (set(map(tuple, inner.pairs[one].tolist())) for one in ("val", "train"))
    assert sorted(user for user, _ in held) == list(range(39))
    assert held | train == set(map(tuple, world.pairs["train"].tolist()))
    assert not len(tiktok_blend.fold(world, np.random.default_rng(0), most=2).pairs["val"])
    few = hybrid_candidates.Config(least_positives=1, least_in_leaf=2)
    monkeypatch.setattr(
        recipe.Recipe,
        "section",
        lambda given, name, config: few if "hybrid" in name else config(),
    )
    models = ["popularity", "video_neighbours", "content"]
    command = ["--data", str(tmp_path), "--models", *models, "--seeds", "2"]
    tiktok_blend.main([*command, "--out", str(tmp_path / "out")])
    found = told(tmp_path / "out")
    blends = {name for name, *_ in found if "blend" in name and " - " not in name}
    assert blends == {tiktok_blend.BY_USERS, tiktok_blend.BY_TRAIN, tiktok_blend.LEAK}
    for name in (*models, tiktok_blend.CLOSED, *blends):
        assert 0 < found[name, "recall@20", "val"]["value"] <= 1
    blend = found[tiktok_blend.BY_USERS, "mrr@20", "val"]["value"]
    assert blend > found["popularity", "mrr@20", "val"]["value"] + 0.1, "tastes are planted"


def test_popularity_on_a_test_file_equals_a_count(tmp_path: Path) -> None:
    """Train and val are masked, each fit counts what it has seen, strangers get the most viewed."""
    data = tiktok_files(tmp_path)
    command = ["--data", str(data), "--models", "popularity", "--test", str(data / "test.parquet")]
    tiktok.main([*command, "--out", str(tmp_path / "out")])
    rows = pq.read_table(data / "interactions.parquet").to_pylist()
    for name, splits in (("popularity", ["train"]), ("popularity" + tiktok.REFIT, tiktok.SPLITS)):
        viewers = Counter(one["item_id"] for one in rows if one["split"] in splits)
        gains: dict[int, float] = {}
        for user, video in held_pairs(data):
            seen = {one["item_id"] for one in rows if one["user_id"] == user}
            order = sorted(set(range(30)) - seen, key=lambda one: (-viewers[one], digest(one)))
            found = video in order[:20]
            gain = 1 / math.log2(2 + order.index(video)) if found else 0
            gains[user] = gains.get(user, 0) + gain
        gains[29] /= sum(1 / math.log2(1 + rank) for rank in range(1, 7))
        value = told(tmp_path / "out")[name, "ndcg@20", "test"]["value"]
        assert value == pytest.approx(sum(gains.values()) / len(gains), rel=1e-5)


def held_pairs(data: Path) -> list[tuple[int, int]]:
    rows = pq.read_table(data / "test.parquet").to_pylist()
    return [(one["user_id"], one["item_id"]) for one in (*rows[:12], rows[-1])]


def digest(one: object) -> bytes:
    return hashlib.md5(str(one).encode()).digest()


class Spied(BaseModel):
    """Config of the spy."""

    epochs: int | None = None
    wide: bool = False


def test_final_fits_exclude_val_and_all_exclude_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spy in a model's place tells what it is given; the wide configuration is made the better."""
    seen: list[Any] = []

    def fit(graph: Any, config: Spied, rng: np.random.Generator) -> Trained:
        stops = graph.early_stopping is not None
        seen.append((len(graph.edges), stops, config.epochs, config.wide, float(rng.random())))
        world = tiktok.read(tmp_path)
        video = np.zeros((30, 30), np.float32) + np.eye(30, dtype=np.float32)
        user = np.zeros((39, 30), np.float32)
        if config.wide:
            user[tuple(world.pairs["val"].T)] = 1
        known = np.ones(39, np.bool_), np.ones(30, np.bool_)
        return Trained(Embeddings(user, video, *known), {"epochs": 7, "losses": [2.0, 1.0]})

    opened = tiktok.held_out
    monkeypatch.setattr(tiktok, "_module", lambda _: SimpleNamespace(Config=Spied, fit=fit))
    monkeypatch.setattr(tiktok, "held_out", lambda *given: seen.append("open") or opened(*given))
    monkeypatch.setitem(spaces.SPACES, "content", {"wide": [True, False], "graph.k_videos": [3]})
    data, out = tiktok_files(tmp_path), tmp_path / "out"
    command = ["--data", str(data), "--models", "content", "--seeds", "3", "--out", str(out)]
    tiktok.main([*command, "--test", str(data / "test.parquet")])
    assert [one[:4] for one in seen[:3]].count((117, True, None, True)) == 1, "tuning"
    assert seen[0][1:4] == (True, None, False), "the Config as it stands comes first"
    assert [one[:4] for one in seen[3:6]] == [(117, False, 7, True)] * 3, "final fits"
    assert [one[:4] for one in seen[6:9]] == [(147, False, 7, True)] * 3, "refits"
    assert seen[9:] == ["open"]
    assert seen[0][4] == seen[1][4] == seen[2][4]
    assert len({one[4] for one in seen[:6]}) == 4, "other seeds than tuning's"
    assert told(out)["content", "recall@20", "val"]["value"] == 1
    assert (out / "losses.png").is_file() == (out / "recall-val.png").is_file()


def test_spaces_name_fields_of_models() -> None:
    """A misspelt field or a value out of range is found before the night of tuning."""
    for model, space in spaces.SPACES.items():
        for name, values in space.items():
            for value in values:
                if name.startswith(spaces.GRAPH):
                    tiktok.GraphConfig(**{name.removeprefix(spaces.GRAPH): value})
                else:
                    tiktok._module(model).Config.model_validate({name: value})
    assert set(spaces.SPACES) <= {*registry.CARDS, "hybrid"}
    for model in registry.CARDS:
        for name, values in spaces.nights(model).items():
            for value in values:
                tiktok._module(model).Config.model_validate({name: value})
    assert not {name for model in registry.CARDS for name in spaces.nights(model) if "." in name}
    assert "weights" not in spaces.nights("content")
    found = tiktok.configurations("video_neighbours", 30)
    assert len({json.dumps(one.config) for one in found}) == 30
    assert found == tiktok.configurations("video_neighbours", 40)[:30]


@pytest.mark.parametrize("centred", [(), ("acoustic",)])
def test_video_graphs_equal_the_file(tmp_path: Path, centred: tuple[str, ...]) -> None:
    """By id: numbering the videos by hash and leaving out missing vectors mixes nothing up."""
    data = tiktok_files(tmp_path)
    world = tiktok.read(data)
    found = tiktok.graph(world, ("train",), tiktok.GraphConfig(centred=centred, k_videos=4))
    items = pq.read_table(data / "item_features.parquet").sort_by("item_id")
    for modality in tiktok.MODALITIES:
        vectors = np.array(items[modality].to_pylist())
        has = np.any(vectors != 0, axis=1)
        vectors = vectors - vectors[has].mean(axis=0) * (modality in centred)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
        cosine = np.where(has & has[:, None], unit @ unit.T, 0) - 9 * np.eye(30)
        edges = found.modality_edges[modality]
        ids = [world.videos[idx] for idx in (edges.node_idx, edges.neighbour_idx)]
        np.testing.assert_allclose(edges.similarity, cosine[tuple(ids)], atol=1e-5)
        best = -np.sort(-cosine, axis=1)[:, :4]
        for video in range(30):
            mine = np.sort(edges.similarity[ids[0] == video])[::-1]
            np.testing.assert_allclose(mine, best[video][best[video] > 0], atol=1e-5)
        assert (found.features[modality].present == has[world.videos]).all()
    assert not found.features["acoustic"].present.all()


class Slow:
    """The two models as their docstrings say it, on ids, from the rows of the file."""

    def __init__(self, file: Path) -> None:
        self.viewers: dict[int, set[int]] = {}
        self.liked: dict[int, set[int]] = {}
        for one in pq.read_table(file).to_pylist():
            if one["split"] == "train":
                self.viewers.setdefault(one["item_id"], set()).add(one["user_id"])
                self.liked.setdefault(one["user_id"], set()).add(one["item_id"])
        self.light = {user for user, videos in self.liked.items() if len(videos) <= 20}
        self.most = max(len(people & self.light) for people in self.viewers.values())

    def popularity(self, user: int) -> dict[int, float]:
        return {video: len(people) for video, people in self.viewers.items()}

    def video_neighbours(self, user: int) -> dict[int, float]:
        found: Counter[int] = Counter()
        for mine in self.liked.get(user, ()):
            near = self.near(mine)
            for other in sorted(near, key=lambda one: (-near[one], digest(one)))[:200]:
                found[other] += near[other]
        return found

    def near(self, mine: int) -> dict[int, float]:
        ours, near = self.viewers[mine] & self.light, {}
        for other in set().union(*(self.liked[one] for one in ours)) - {mine}:
            common = sum(1 / len(self.liked[one]) for one in ours & self.viewers[other])
            tie = 1e-4 * len(self.viewers[other] & self.light) / self.most
            near[other] = float(np.float32(common / (len(ours) + 100) + tie))
        return near

    def first(self, model: str, user: int) -> list[int]:
        found = getattr(self, model)(user)
        allowed = [video for video in found if video not in self.liked.get(user, ())]
        # Sums in another order differ in the last bit of a float32: no difference of scores.
        best = sorted(allowed, key=lambda one: (-round(found[one], 7), digest(one)))[:20]
        # Filled up with the most viewed that are left, as the harness does.
        popular = self.popularity(user)
        rest = set(popular) - set(self.liked.get(user, ())) - set(best)
        return [*best, *sorted(rest, key=lambda one: (-popular[one], digest(one)))][:20]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("model", "config", "sane"),
    [
        ("popularity", {"count": "viewers"}, (0.05, 0.075)),
        ("video_neighbours", {"activity_cap": 20}, (0.09, 0.12)),
    ],
)
def test_recall_on_real_val_equals_brute_force(
    model: str, config: dict[str, Any], sane: tuple[float, float], real_data: Path
) -> None:
    world = tiktok.read(real_data / "tiktok")
    on = tiktok.case(world, world.pairs["val"], split="val", seen=["train"])
    trial = tiktok.Trial(model, model, config)
    run = tiktok.fit(world, trial, seed=1, splits=("train",), stopped=False)
    listed = quality.lists_of(run.fitted, on)
    assert sane[0] < quality.recall(listed, on.truth) < sane[1]
    slow = Slow(real_data / "tiktok" / "interactions.parquet")
    rows = np.random.default_rng(2).choice(len(on.truth.users), 200, replace=False)
    _, metrics, values = ranking.per_user({model: listed}, on.truth, (20,))
    found = []
    for row in rows:
        wanted = world.videos[on.truth.video[on.truth.row == row]].item()
        found.append(wanted in slow.first(model, int(on.truth.users[row])))
    assert values[rows, 0, metrics.index("recall@20")].tolist() == found
    assert sum(found) > 5


NIGHTS = """
[night]
window_days = 4
k = 10
models = ["popularity", "user_neighbours", "video_neighbours", "preference_gcn"]
[models.preference_gcn]
max_epochs = 2
dim = 8
[models.video_neighbours]
top_k = 7
[candidates.fusion] # the recipe's weights stand, as they do for the benchmark's blend
caution = 100.0
"""
LAST = dt.date(2026, 1, 5)
MODEL = "user_neighbours"
BEFORE = LAST - dt.timedelta(days=1)
DAYS = [BEFORE, LAST]


@pytest.fixture
def planted(place: Path, spark: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The landing zone of a small world, and a recipe."""
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    (place / "recipe.toml").write_text(NIGHTS)
    world = generate(
        Config(users=100, videos=120, days=5, formats=("parquet",)), np.random.default_rng(3)
    )
    truth = world.truth.model_dump(mode="json")
    write.write_world(str(place / "landing"), world.parts, truth=truth)
    return place


def asked(out: Path, *options: str) -> Any:
    out.mkdir()
    command = ["--data", "unused", "--through", str(LAST), "--out", str(out), *options]
    return nights._parser().parse_args(command)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.long
def test_nights_smallest_size_run(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one night exactly the figures of the job that judges it; of all nights their means."""
    assert nights.build([LAST, BEFORE], land=lambda: None)
    out = planted / "a"
    monkeypatch.setattr(nights, "SELECTED", LAST)
    models = [*recipe.current().night.models, nights.BLEND]
    nights.run(asked(out, "--models", ",".join(models), "--seeds", "1"), DAYS, DAYS[0])
    assert (out / nights.BARS).is_file() == (out / nights.LINES).is_file()
    found = told(out)
    nights_of_the_job(found, models)
    sizes = [len(nights.read(day).case.truth.users) for day in DAYS]
    for name in models:
        values = [found[name, "ndcg@20", str(day)]["value"] for day in DAYS]
        one = found[name, "ndcg@20", nights.ALL]
        assert one["value"] == pytest.approx(np.average(values, weights=sizes))
        assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
        one = found[name, "ndcg@20", f"{nights.ALL} but {LAST}"]
        assert one["value"] == pytest.approx(values[0])
        values = [found[name, "coverage@20", str(day)]["value"] for day in DAYS]
        assert found[name, "coverage@20", nights.ALL]["value"] == pytest.approx(np.mean(values))
    pairs = {name for name, _, _ in found if " - " in name}
    subject = "preference_gcn"
    assert pairs == {f"{subject} - {other}" for other in models if other != subject} | {
        f"blend - {other}" for other in models[:3]
    }
    assert ("blend - popularity", "recall@20", f"{nights.ALL} history=3-5") in found
    tried = json.loads((out / "tuning.json").read_text())
    assert [one["config"]["top_k"] for one in tried if one["name"] == "video_neighbours"] == [7]
    lists_are_completed_by_the_ladder()
    without_earlier_nights_the_blend_is_the_closed_form()
    chosen_before_the_measured_nights(planted, monkeypatch)
    nothing_is_built_again(planted, monkeypatch)


def without_earlier_nights_the_blend_is_the_closed_form() -> None:
    """One night is too little to learn from, and so is so small a day."""
    options = {"models": [FLOOR, MODEL], "learn": 1, "nights": 1, "through": LAST, "prices": True}
    rows = hybrid.run(argparse.Namespace(**options), DAYS)
    found = {(one["name"], one["metric"], one["split"]): one["value"] for one in rows}
    for metric in ("recall@20", "ndcg@20"):
        closed = found[hybrid.CLOSED, metric, nights.ALL]
        assert found[hybrid.HYBRID, metric, nights.ALL] == closed
        assert found[hybrid.SAME_DAY, metric, nights.ALL] == closed
    assert (f"{hybrid.HYBRID} - {FLOOR}", "ndcg@20", nights.ALL) in found


def nothing_is_built_again(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stands, and is not taken for what another recipe would make."""
    monkeypatch.setattr(nights, "call", lambda *_: pytest.fail("built again"))
    assert not nights.build(DAYS, land=lambda: pytest.fail("landed again"))
    with pytest.raises(pytest.fail.Exception, match="built again"):
        nights.build([BEFORE - dt.timedelta(days=2)], land=lambda: None)
    (planted / "recipe.toml").write_text(NIGHTS.replace("window_days = 4", "window_days = 3"))
    with pytest.raises(RecipeError, match="another recipe"):
        nights.build(DAYS, land=lambda: None)


def nights_of_the_job(found: dict[tuple[str, str, str], Any], models: list[str]) -> None:
    """Fit, select and evaluate by the jobs themselves."""
    nights_module = importlib.import_module("tests.worlds.nights")
    nights_module.fit_and_select(LAST, "trial")
    with contextlib.suppress(GateHeld):  # so small a world may be held; what was measured counts
        nights_module.call("evaluate_sources", LAST)
    rows = Warehouse.open().read("metrics", day=LAST, stage="evaluation").to_pylist()
    shared = 0
    for one in rows:
        part = "" if one["slice"] == "all" else f" {one['slice']}"
        if one["name"] == nights.BLEND:
            continue  # what is released of so small a world may be its best source alone
        name = nights.BLEND if one["name"] == "closed_form" else one["name"]
        key = (name, one["metric"], f"{LAST}{part}")
        if key in found:
            shared += 1
            assert found[key]["value"] == pytest.approx(one["value"], abs=1e-9), key
    assert shared > len(models) * len(quality.ACCURACY) * 4
    assert {one["name"] for one in rows} >= set(models)


def lists_are_completed_by_the_ladder() -> None:
    """The model's own videos in their order, then the ladder's that are not seen, up to k."""
    night = nights.read(LAST)
    proposed = nights.candidates(night, nights.fit(night, nights.released(MODEL), 0).fitted)
    whole, short = nights.filled(night, proposed).to_pylist(), 0
    for user in night.asked.tolist():
        own = [one["video_idx"] for one in proposed.to_pylist() if one["user_idx"] == user][:10]
        seen = set(night.case.known.seen[[user]].indices.tolist())
        others = [one for one in night.ladder.video.tolist() if one not in seen | set(own)]
        found = [one["video_idx"] for one in whole if one["user_idx"] == user]
        assert found == [*own, *others][:10]
        short += len(own) < 10
    assert short > 5


def chosen_before_the_measured_nights(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two configurations each on the night before; the blend stays the recipe's."""
    fits: list[tuple[dt.date, str, int, int | None]] = []
    fit = nights.fit

    def spied(night: nights.Night, trial: nights.Trial, seed: int) -> nights.Run:
        fits.append((night.day, trial.model, seed, trial.config.get("top_k")))
        return fit(night, trial, seed)

    monkeypatch.setattr(nights, "fit", spied)
    monkeypatch.setitem(spaces.SPACES, "video_neighbours", {"top_k": [90]})
    monkeypatch.setattr(nights.quality, "recall", lambda listed, _: float(fits[-1][3] or 0))
    models = ["video_neighbours", "preference_gcn", "blend"]
    options = asked(
        planted / "b", "--models", ",".join(models), "--budget", "2", "--seeds", "2", "--filled"
    )
    nights.run(options, [LAST], BEFORE)
    tried = json.loads((planted / "b" / "tuning.json").read_text())
    assert Counter(one["model"] for one in tried) == dict.fromkeys(models[:2], 2)
    assert next(one["config"]["top_k"] for one in tried if one["chosen"]) == 90
    assert all(one["config"]["epochs"] is None for one in tried if "epochs" in one["config"])
    assert [day for day, *_ in fits[:4]] == [BEFORE] * 4
    later = fits[4:]
    assert {day for day, *_ in later} == {LAST}
    neighbours = [one[2:] for one in later if one[1] == "video_neighbours"]
    assert sorted(neighbours) == [(0, 7), (0, 90)], "the blend's and the chosen one, nothing random"
    assert {one[2] for one in later if one[1] == "preference_gcn"} == {0, 1}
    found = told(planted / "b")
    for name, n in (("video_neighbours", 1), ("preference_gcn", 2), ("blend", 2)):
        assert found[name, "recall@20", nights.ALL]["seeds"] == n
    ten, fifty = (found["video_neighbours", f"recall@{k}", nights.ALL]["value"] for k in (10, 50))
    assert ten == fifty, "completed lists end at k = 10, proposals at 20"
    assert found["blend", "ndcg@50 sd", nights.ALL]["value"] > 0, "each seed has its blend"


def test_futures_of_others_belong_to_the_same_cut() -> None:
    graph = trend_worlds.graph(trend_worlds.world(1, n_groups=3))
    changed = trends.with_others_future(graph, np.random.default_rng(1))
    mine, theirs = graph.sequences, changed.sequences
    assert mine is not None
    assert theirs is not None

    def rows(steps: Any) -> list[tuple[Any, ...]]:
        parts = zip(steps.indptr[:-1], steps.indptr[1:], strict=True)
        return [(*steps.video_idx[a:b], *steps.at[a:b], *steps.weight[a:b]) for a, b in parts]

    was, now = rows(mine.future), rows(theirs.future)
    assert was != now
    for cut in np.unique(mine.cut_at):
        of_cut = np.flatnonzero(mine.cut_at == cut)
        assert Counter(was[n] for n in of_cut) == Counter(now[n] for n in of_cut)
    assert theirs.history is mine.history


def test_click_figures_equal_the_scores() -> None:
    """Means over rows are gAUC and log loss; a model that knows more is the better one."""
    rng = np.random.default_rng(3)
    nights_ = []
    for _ in range(2):
        n = 400
        user, label = np.sort(rng.integers(60, size=n)), rng.random(n) < 0.4
        of = trends.Exposures(
            np.zeros(n, np.int64), user.astype(np.int32), np.zeros(n, np.int32), np.arange(n), label
        )
        pairs = trends.Pairs(*(np.zeros(n, np.int64) for _ in range(4)))
        shown = trends.Shown(of, user.astype(str), rng.integers(10, size=n), pairs)
        seeds = {
            name: [
                np.clip(0.4 + know * (label - 0.4) + 0.2 * rng.random(n), 0.01, 0.99) for _ in "ab"
            ]
            for name, know in (("multi_trend", 0.3), ("din", 0.02))
        }
        nights_.append(trends.Measured(seeds, shown, {}, {}))
    found = {(one["name"], one["metric"]): one for one in trends._clicks(nights_)}
    for name in ("multi_trend", "din"):
        per_night, sizes, losses = [], [], []
        for night in nights_:
            label, user = night.shown.exposures.label, night.shown.exposures.user_idx
            both = np.array([0 < label[user == u].mean() < 1 for u in user])
            sizes.append(both.sum())
            per_night.append(np.mean([grouped_auc(p, label, user) for p in night.clicks[name]]))
            losses += [-np.log(np.where(label, p, 1 - p)).mean() for p in night.clicks[name]]
        assert found[name, "gauc"]["value"] == pytest.approx(np.average(per_night, weights=sizes))
        assert found[name, "log loss"]["value"] == pytest.approx(np.mean(losses))
        assert found[name, "gauc"]["seeds"] == 2
    gain = found["multi_trend - din", "gauc"]
    assert gain["low"] > 0
    assert gain["value"] == pytest.approx(
        found["multi_trend", "gauc"]["value"] - found["din", "gauc"]["value"]
    )
    assert found["multi_trend", "auc"]["value"] > found["din", "auc"]["value"]
    assert found["multi_trend - din", "log loss"]["high"] < 0


def test_calibration_equals_predicted_minus_observed() -> None:
    label = np.tile([True, False, False, False], 100)
    assert trends.calibration(np.full(400, 0.25), label) == pytest.approx(0)
    assert trends.calibration(np.full(400, 0.45), label) == pytest.approx(0.2)


def test_click_floor_is_the_smoothed_share_of_positives() -> None:
    video, label = np.array([0, 0, 0, 2]), np.array([True, True, False, False])
    nobody = np.zeros(4, dtype=np.int64)
    before = trends.Exposures(
        nobody, nobody.astype(np.int32), video.astype(np.int32), nobody, label
    )
    mean, prior = 0.5, trends.PRIOR
    wanted = [(2 + prior * mean) / (3 + prior), mean, prior * mean / (1 + prior)]
    assert trends.video_rates(before, 3) == pytest.approx(wanted)


KUAIRAND_DAY = dt.date(2022, 5, 4)
"""Last of the five days of `kuairand_files`."""


def kuairand_files(folder: Path) -> Path:
    """Five days of the public form, 60 users; where a video is shown decides whether it is watched long."""
    rng = np.random.default_rng(4)
    videos = np.arange(30)
    names = ["is_like", "is_follow", "is_comment", "is_forward", "is_hate"]
    for back in range(5):
        day = KUAIRAND_DAY - dt.timedelta(days=back)
        midnight = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp() * 1000)
        user, video = np.repeat(np.arange(60), 6), rng.integers(30, size=360)
        tab = rng.integers(2, size=360)
        liked = (tab == 1) ^ (rng.random(360) < 0.1)
        log = pd.DataFrame({"user_id": user, "video_id": video, "tab": tab, "long_view": liked * 1})
        log["time_ms"] = midnight + 1000 * np.sort(rng.integers(80_000, size=360))
        log["play_time_ms"], log["duration_ms"] = np.where(liked, 20_000, 4_000), 30_000
        log[names] = 0
        log.to_csv(folder / f"log_standard_{day:%Y%m%d}.csv.gz", index=False)
    catalogue = {
        "video_id": videos,
        "author_id": videos % 4,
        "video_duration": 30_000.0,
        "upload_dt": "2022-01-01",
        "tag": "1,2",
    }
    pd.DataFrame(catalogue).to_csv(folder / "video_features_basic_pure.csv.gz", index=False)
    user, pos = np.repeat(np.arange(60), 8), np.tile(np.arange(8), 60)
    past = pd.DataFrame({"user_id": user, "pos": pos, "video_id": rng.integers(30, size=480)})
    past["long_view"] = rng.integers(2, size=480)
    past.to_parquet(folder / kuairand.PAST)
    return folder


def test_clip_viewers_smallest_size_run(tmp_path: Path) -> None:
    """A model of constant scores has .5, whoever leaves; the order of the viewers changes nothing."""
    data, out = kuairand_files(tmp_path), tmp_path / "out"
    command = ["--data", str(data), "--through", str(KUAIRAND_DAY), "--nights", "1", "--seeds", "1"]
    clip_viewers.main([*command, "--out", str(out)])
    rows = json.loads((out / "results.json").read_text())
    found = {
        (one["name"], one["metric"]): one for one in rows if not one["split"].startswith("warm")
    }
    for name in (clip_viewers.USER, *clip_viewers.CHANGES):
        one = found[name, "within clips"]
        assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
    rng = np.random.default_rng(0)
    clip = rng.integers(5, size=300)
    through = rng.random(300) < 0.6
    reached = ClipEdges(rng.integers(40, size=300), clip, clip, through, np.ones(300))
    score = np.round(rng.standard_normal(300), 1)
    told = clip_viewers.told(score, reached)
    slow = [
        np.mean([(own < other) + (own == other) / 2 for other in score[(clip == of) & through]])
        for own, of in zip(score[~through], clip[~through], strict=True)
    ]
    np.testing.assert_allclose(told.above, slow)
    assert (told.who == reached.user_idx[~through]).all()
    assert (clip_viewers.told(np.zeros(300), reached).above == 0.5).all()


def test_retention_smallest_size_run(tmp_path: Path) -> None:
    """What is told of the files lies in its interval; a curve's hazards are brought to the level of what left."""
    data, out = kuairand_files(tmp_path), tmp_path / "out"
    command = ["--data", str(data), "--through", str(KUAIRAND_DAY), "--nights", "1", "--seeds", "1"]
    retention.main([*command, "--out", str(out)])
    rows = json.loads((out / "results.json").read_text())
    whole = {(one["name"], one["metric"]): one for one in rows if one["split"].startswith("all (")}
    for name in (retention.PLACE, retention.COUNTS, retention.SUBJECT, retention.VIEWERS):
        one = whole[name, "bias"]
        assert one["low"] <= one["value"] <= one["high"]
        assert whole[name, "ece"]["value"] >= abs(one["value"])
    world = kuairand.read(data)
    layout, edges = clip_viewers.edges_of(world)
    level = retention.right_level(np.full(layout.n_clips, 0.5), layout, edges)
    hazard = 1 - level / layout.before(level, first=1.0)
    assert hazard[edges.clip].sum() == pytest.approx((~edges.through).sum())


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_retention_distance_is_that_of_the_curve_without_the_noise(off: float) -> None:
    rng = np.random.default_rng(0)
    clip = np.repeat(np.arange(400), 20)
    right = rng.uniform(0.2, 0.8, size=400)[clip]
    stayed = rng.random(len(clip)) < right
    told = retention.Viewings(
        clip % 50, clip, clip * 0, clip * 0, stayed, {"curve": right + off, "mean": right * 0 + 0.5}
    )
    figures = retention.figures_of(told, "curve", clip >= 0)
    assert figures["distance"][0] == pytest.approx(off, abs=0.02)
    assert figures["bias"][0] == pytest.approx(off, abs=0.015)
    order = np.argsort(right, kind="stable")
    slow = [
        abs(float(np.mean(right[some] + off - stayed[some])))
        for some in np.array_split(order, retention.N_BINS)
    ]
    assert figures["ece"][0] == pytest.approx(np.mean(slow))
    assert retention.distance(clip, np.full(len(clip), 0.5), stayed.astype(float)) == pytest.approx(
        float(right.std()), abs=0.02
    )


def test_exposures_smallest_size_run(tmp_path: Path) -> None:
    """Models that know where a video is shown gain by it; a count of videos knows nothing of that."""
    data, out = kuairand_files(tmp_path), tmp_path / "out"
    command = ["--data", str(data), "--through", str(KUAIRAND_DAY), "--nights", "1", "--seeds", "1"]
    models = ["popularity", "fm", "dnn", "rates"]
    exposures.main([*command, "--models", ",".join(models), "--budget", "2", "--out", str(out)])
    rows = json.loads((out / "results.json").read_text())
    found = {(one["benchmark"], one["name"], one["metric"], one["split"]): one for one in rows}
    for task in exposures.TASKS:
        for model in (*models, exposures.ORACLE):
            one = found[task.name, model, "mean", exposures.NEXT_DAY]
            assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
        for model in ("fm", "rates"):
            gain = found[
                f"{task.name}: paired differences",
                f"{model} - popularity",
                "mean",
                exposures.NEXT_DAY,
            ]
            assert gain["low"] > 0.02, "surfaces are planted"
        assert found[task.name, exposures.ORACLE, "gauc", exposures.NEXT_DAY]["value"] == 1
        assert found[task.name, "fm", "gauc", exposures.NEXT_DAY] | {"split": ""} == (
            found[task.name, "fm", "gauc", exposures.ONE_LIST] | {"split": ""}
        ), "one night is one list"
    tried = json.loads((out / "tuning.json").read_text())
    counts = Counter((one["name"], one["chosen"]) for one in tried)
    assert counts["positive: fm", True] == counts["positive: fm", False] == 1
    again = ["--models", "fm", "--tuned", str(out / "tuning.json"), "--out", str(tmp_path / "b")]
    exposures.main([*command, *again])
    for split in (exposures.NEXT_DAY, exposures.ONE_LIST):
        later = told(tmp_path / "b")["fm", "mean", split]["value"]
        assert later == told(out)["fm", "mean", split]["value"]


def test_exposure_figures_equal_a_count_by_hand() -> None:
    """Lists with 2 of 4 positive and a tie, 1 of 2, none of 2, the last of 6 (beyond the cut), 2 of 2."""
    label = np.array([1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1], dtype=bool)
    scores = np.array([0.9, 0.5, 0.1, 0.5, 0.7, 0.2, 0.3, 0.4, 6, 5, 4, 3, 2, 1.0, 8, 9])
    group = np.array([7] * 4 + [3] * 2 + [5] * 2 + [9] * 6 + [11] * 2)
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    first = (1 + (second + third) / 2) / (1 + second)
    aucs = {7: (1 + 1 + 0.5 + 1) / 4, 3: 0.0, 9: 0.0}
    assert exposures.ndcgs(scores, label, group) == pytest.approx([second, 0, first, 0, 1])
    sums = exposures.list_sums(scores, label, group)
    assert sums[:, 1].tolist() == [1, 0, 2, 1, 0], "a list without both labels has no AUC"
    gauc = (1 * aucs[3] + 2 * aucs[7] + 1 * aucs[9]) / 4
    ndcg = (second + 0 + first + 0 + 1) / 5
    found = exposures.figures(sums.sum(axis=0))
    assert found == pytest.approx([gauc, ndcg, (gauc + ndcg) / 2])


def test_exposure_lists_are_of_a_day_or_of_all_days() -> None:
    label, scores = np.array([True, False, True, False]), np.array([1, 2, 4, 0.5])
    nobody = np.zeros(4, np.int64)
    of = kuairand.Labelled(np.full(4, 6), nobody, nobody, np.array([1, 1, 2, 2]), nobody, label)
    by_day = exposures.user_sums(scores, of, by_day=True)
    assert by_day == pytest.approx(np.array([[1, 2, 1 + 1 / math.log2(3), 2]]))
    assert exposures.user_sums(scores, of, by_day=False)[0, :2] == pytest.approx([2 * 0.75, 2])


def test_exposure_differences_name_each_pair_once() -> None:
    names = ["rates", "popularity", "fm", "oracle"]
    wanted = {("rates", "popularity"), ("fm", "popularity"), ("rates", "fm")}
    assert set(exposures.differences(names)) == wanted
    assert len(exposures.differences(names)) == 3


def test_kuairand_labels_and_lengths_equal_the_lines(tmp_path: Path) -> None:
    """Doubles count once, a missing length is the catalogue's, what never played has no feedback."""
    folder = kuairand_files(tmp_path)
    path = folder / f"log_standard_{KUAIRAND_DAY:%Y%m%d}.csv.gz"
    log = pd.read_csv(path).iloc[[0] * 7].reset_index(drop=True)
    log["user_id"] = [0, 0, 1, 2, 3, 4, 5]
    log["play_time_ms"] = [5_000, 5_000, 0, 0, 28_600, 28_400, 28_600]
    log["duration_ms"] = [30_000, 30_000, 30_000, 30_000, 0, 30_000, 30_000]
    log["is_like"], log["is_hate"] = [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]
    log["long_view"] = [1, 1, 0, 0, 0, 0, 0]
    log.to_csv(path, index=False)
    world = kuairand.read(folder)
    number = KUAIRAND_DAY.toordinal() - kuairand.EPOCH
    found = {}
    for label, rows in world.labelled.items():
        of_day = rows.taken(rows.day == number)
        assert len(of_day) == len(np.unique(of_day.user_idx)), "a double counts once"
        found[label] = dict(zip(of_day.user_idx.tolist(), of_day.label.tolist(), strict=True))
    assert found[kuairand.LONG_VIEW] == {0: True} | dict.fromkeys(range(1, 6), False)
    # 18 seconds are a long watch; 1 never played and has no label, 5 disliked it.
    assert found[kuairand.POSITIVE] == {0: False, 2: True, 3: True, 4: True, 5: False}
    with pytest.raises(ValueError, match="no label 'positive'"):
        world.rows(kuairand.POSITIVE, with_past=True)


def test_kuairand_graph_excludes_the_held_out_day(tmp_path: Path) -> None:
    """Counts, histories and examples are of the days before; the past counts and is no example."""
    world = kuairand.read(kuairand_files(tmp_path))
    rows = world.rows(kuairand.LONG_VIEW, with_past=True)
    number = KUAIRAND_DAY.toordinal() - kuairand.EPOCH
    graph = kuairand.graph(world, rows, KUAIRAND_DAY, example_days=7)
    counts, sequences_ = graph.rates.counts, graph.sequences
    assert counts.day.max() == graph.rates.validated_on == number - 1
    assert counts.n_shown.sum() == (rows.day < number).sum()
    assert counts.n_positive.sum() == rows.label[rows.day < number].sum()
    assert counts.n_shown[counts.surface < 0].sum() == len(world.past) == 480
    assert len(sequences_.exposures) == (rows.day < number).sum() - 480
    assert sequences_.exposures.at.max() < number * kuairand.DAY_US
    cuts = np.repeat(sequences_.cut_at, np.diff(sequences_.history.indptr))
    assert (sequences_.history.at < cuts).all()
    assert (sequences_.exposures.at >= sequences_.cut_at[sequences_.exposures.row]).all()
    user = 5
    liked = rows.label & (rows.user_idx == user) & (rows.day < number)
    mine = sequences_.serving[user]
    steps = slice(*sequences_.history.indptr[mine : mine + 2])
    assert sequences_.history.video_idx[steps].tolist() == rows.video_idx[liked][-100:].tolist()


def test_machine_equals_the_sum_over_pairs_of_fields() -> None:
    machine = factorization.Machine(7, 3, factorization.torch.Generator().manual_seed(0))
    ids = np.array([[1, 2, 3, 4, 0], [2, 2, 5, 6, 1]])
    machine.seen[1:6] = 1
    with factorization.torch.no_grad():
        machine.rows.normal_(generator=factorization.torch.Generator().manual_seed(1))
        machine.bias.fill_(0.5)
        found = machine(factorization.torch.from_numpy(ids)).numpy()
    rows = machine.rows.detach().numpy().copy()
    rows[[0, 6]] = 0  # never seen
    for one, value in zip(ids, found, strict=True):
        taken = rows[one]
        pairs = sum(float(taken[a, :3] @ taken[b, :3]) for a in range(5) for b in range(a))
        assert value == pytest.approx(0.5 + taken[:, 3].sum() + pairs, abs=1e-4)


def test_larger_world_copies_users_with_other_videos(tmp_path: Path) -> None:
    landing_root = tmp_path / "raw_interactions" / "day=2026-01-01"
    landing_root.mkdir(parents=True)
    generator = np.random.default_rng(2)
    lines = [f"{u},{min(int(v), 39)}" for u in range(50) for v in generator.exponential(9, size=8)]
    (landing_root / "log.csv.gz").write_bytes(
        gzip.compress(("user_id,video_id\n" + "\n".join(lines)).encode())
    )
    sequences.multiply(tmp_path, 3, np.random.default_rng(0))
    rows = pd.read_csv(landing_root / "log.csv.gz", dtype=str)
    assert len(rows) == 3 * 400
    assert rows["user_id"].nunique() == 3 * 50
    first = rows[~rows["user_id"].str.contains("-")]
    assert [f"{u},{v}" for u, v in zip(first["user_id"], first["video_id"], strict=True)] == lines
    copy = rows[rows["user_id"].str.endswith("-2")]
    assert copy["user_id"].str.removesuffix("-2").tolist() == first["user_id"].tolist()
    assert (copy["video_id"].to_numpy() != first["video_id"].to_numpy()).mean() > 0.8
    assert set(copy["video_id"]) == set(first["video_id"])
    counts = first["video_id"].value_counts(), copy["video_id"].value_counts()
    assert sorted(counts[0]) == sorted(counts[1]), "one video has each place"
    top = [set(one.sort_values(ascending=False).index[: sequences.BLOCK]) for one in counts]
    assert len(top[0] & top[1]) >= sequences.BLOCK - 3, "ties at the border apart"


def test_cost_of_a_job_equals_its_measure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "recipe.toml").write_text('[night]\nmodels = ["popularity"]\n')
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    found = sequences.cost("build_sequences", "--day", "2026-01-01")
    assert found.seconds > 0
    assert 50 < found.megabytes < 5000
    with pytest.raises(SystemExit, match="LandingError"):
        sequences.cost("validate_events", "--day", "2026-01-01")


def test_left_out_by_a_night_is_still_built(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "BEFORE_MODELS", ("build_sequences",))
    warehouse = Warehouse.open()
    assert nights.missing(LAST) == ["build_sequences"]
    warehouse.write_empty("metrics", day=LAST, stage="sequences")
    assert nights.missing(LAST) == ["build_sequences"]
    schema = warehouse.table("metrics").contract.file_schema
    one = {"name": "sequences", "metric": "rows", "slice": "all", "value": 1.0, "n": 1}
    filled = [{name: one.get(name) for name in schema.names}]
    warehouse.write(
        "metrics", pa.Table.from_pylist(filled, schema=schema), day=LAST, stage="sequences"
    )
    assert nights.missing(LAST) == []
    warehouse.write_empty("metrics", day=LAST, stage="sequences")
    assert nights.missing(LAST) == ["build_sequences"], "the row is gone"


def clip_graph(fit: str = "trial") -> Graph:
    planted = clip_worlds.world(1, n_users=20, n_videos=15, n_viewings=300, n_cold=3)
    return build_graph(planted.tables, fit=fit)


def test_priors_of_skipped_clips_are_counts() -> None:
    graph, final = clip_graph(), clip_graph("final")
    known, edges = graph.clips, final.clips.edges
    of_day = edges.taken(edges.day >= known.today)
    of = clips.left_in(graph, of_day, np.arange(20).astype(str))
    assert len(of.user_idx) == (~of_day.through).sum() > 10
    left = [
        (user, known.video[clip], known.number[clip])
        for user, clip, through in zip(
            known.edges.user_idx, known.edges.clip, known.edges.through, strict=True
        )
        if not through
    ]
    share = Counter(number for _, _, number in left)
    rng = np.random.default_rng(0)
    found = {name: one(of, rng) for name, one in clips.PRIORS.items() if name != "lightgcn"}
    for at, (viewing, clip) in enumerate(zip(*of.flat(), strict=True)):
        video, number = known.video[clip], known.number[clip]
        assert video == of.video_idx[viewing]
        place = share[number] / len(left)
        of_video = sum(one[1:] == (video, number) for one in left)
        of_user = sum((one[0], one[2]) == (of.user_idx[viewing], number) for one in left)
        assert found["global position"][at] == pytest.approx(place)
        assert found["item position, smoothed"][at] == pytest.approx(of_video + 20 * place)
        assert found["user position"][at] == pytest.approx(of_user + 5 * place)
    assert (of.warm == np.isin(of.video_idx, known.video[known.edges.clip])).all()


def test_left_clip_is_ranked_among_clips_of_its_video() -> None:
    graph, final = clip_graph(), clip_graph("final")
    edges = final.clips.edges
    of = clips.left_in(
        graph, edges.taken(edges.day >= graph.clips.today), np.arange(20).astype(str)
    )
    viewing, clip = of.flat()
    right = graph.clips.number[clip] == of.clip_no[viewing]
    rng = np.random.default_rng(0)
    assert (clips.ranks(of, right.astype(float), rng) == 1.0).all()
    second = clips.ranks(of, np.where(right, 0.5, graph.clips.number[clip] == 0), rng)
    moved = of.clip_no > 0
    assert (second[moved] == [0.0, 1.0, 1 / np.log2(3)]).all()
    ties = np.mean([clips.ranks(of, np.zeros(len(clip)), rng)[:, 0] for _ in range(300)], axis=0)
    assert ties == pytest.approx(1 / np.bincount(viewing), abs=0.12)


def test_chances_to_leave_and_stay_sum_to_one() -> None:
    graph, final = clip_graph(), clip_graph("final")
    edges = final.clips.edges
    of = clips.left_in(
        graph, edges.taken(edges.day >= graph.clips.today), np.arange(20).astype(str)
    )
    trial = clips.Trial("clip_interest", "clip_interest", {"dim": 4, "epochs": 1}, chosen=True)
    _, network = clips.fitted(graph, trial, np.random.default_rng(0))
    leaves = np.bincount(of.flat()[0], clips.by_model(network, of))
    goal = {"goal_ms": 10**9}
    network.config = network.config.model_copy(update=goal)
    stays = np.exp(clips.clip_interest.scores(network, graph, of.user_idx, of.video_idx))
    assert leaves + stays == pytest.approx(1.0, abs=1e-5)


def test_segments_equal_labels_of_edges() -> None:
    labels = [[1, 0, -1], [1, 1], [0, -1, -1]]
    rows = pa.table(
        {
            "user_id": [7, 3, 7],
            "video_id": [50, 40, 50],
            "time_ms": [10, 20, 30],
            "duration_ms": [12_000, 10_000, 12_000],
            "playing_time": [6_000, 11_000, 2_000],
            "segment_labels": labels,
        }
    )
    of = clips.segments(rows, rows.slice(2))
    edges, known = of.graph.clips.edges, of.graph.clips
    named = zip(
        edges.user_idx, known.video[edges.clip], known.number[edges.clip], edges.through, edges.weight,
        strict=True,
    )  # fmt: skip
    assert [(u, v, n, bool(t), round(w, 3)) for u, v, n, t, w in named] == [
        (1, 1, 0, True, 0.333),
        (1, 1, 1, False, 0.5),
        (0, 0, 0, True, 0.5),
        (0, 0, 1, True, 0.5),
        (1, 1, 0, False, 1.0),
    ]
    assert known.end_ms.tolist() == [5000, 10_000, 5000, 10_000, 12_000]
    assert of.asked.clip.tolist() == [2]
    assert not of.asked.through.any()
    assert set(edges.day) < {known.today - 1, *range(10)}


def test_services_are_held_by_the_gates_as_planted() -> None:
    """Six of ten users find something in the blend, three in popularity: shown in a night; a third less is noticed."""
    rng = np.random.default_rng(1)
    values = {
        name: (rng.random(3000) < share).astype(float)
        for name, share in (("blend", 0.6), ("best_source", 0.5), ("popularity", 0.3))
    }
    given = gates.Outcomes(values, np.zeros(3000, np.int64), 0.5, 7)
    draw = partial(gates.simulate, given, 2000, ups_and_downs=0.0, config=gate.Config())
    good = draw(0.0, generator=rng)
    assert not any(good.alone)
    assert sum(good.held) <= 1, "of 30 nights"
    assert all(draw(None, generator=rng).together), "popularity is no better than itself"
    fallen = draw(0.3, generator=rng)
    assert sum(fallen.held[: gates.FALL]) <= 1
    since = fallen.kept[gates.FALL :]
    assert all(since[:8]), "the range is that of the nights before the fall"
    assert not any(since[10:]), "of fewer than four released nights none is known"
    assert not any(fallen.together[gates.FALL : gates.FALL + 3]), "it is still above popularity"


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.long
def test_services_smallest_size_run(tmp_path: Path) -> None:
    """The released lists stand beside every source, and the difference is theirs."""
    config = Config(users=60, videos=80, days=8, formats=("parquet",))
    rows = services.run("tiny", config, tmp_path, seed=1)
    mean = {(row["name"], row["metric"]): row["value"] for row in rows}
    best = rows[-1]["unit"].split()[0]
    for metric in ("recall@20", "ndcg@20"):
        apart = mean["blend", metric] - mean[best, metric]
        assert mean[f"blend-minus-{best}", metric] == pytest.approx(apart)


def test_blend_smallest_size_run(tmp_path: Path) -> None:
    """Sixty users of whom nothing can be learned: every variant is measured, its own difference to itself is 0."""
    data, out = kuairand_files(tmp_path), tmp_path / "out"
    arguments = ["--data", str(data), "--chosen", "2022-05-03", "--confirmed", "2022-05-04"]
    blend.main([*arguments, "--out", str(out)])
    rows = {
        (row["name"], row["metric"], row["split"]): row
        for row in json.loads((out / "results.json").read_text())
    }
    split = "confirmed on 2022-05-04"
    itself = rows[f"{blend.BEFORE} - {blend.BEFORE}", "ndcg@20", split]
    assert (itself["value"], itself["low"], itself["high"]) == (0, 0, 0)
    for variant in blend.VARIANTS:
        assert 0 < rows[variant.name, "ndcg@20", split]["value"] <= 1
    shares = [
        row["value"]
        for (_, metric, at), row in rows.items()
        if (metric, at) == ("weight", "history=6-20")
    ]
    assert sum(shares) == pytest.approx(1)


def test_segments_judged_equals_hand_computed() -> None:
    """User 3 likes two videos and finds one at rank 2, user 5 finds nothing, user 8 has no list."""
    rows = pa.table({"user_idx": [3, 3, 5], "rank": [1, 2, 1], "video_idx": [7, 4, 4]})
    users, videos = np.array([3, 3, 5, 8]), np.array([4, 9, 1, 1])
    found = segments.judged(rows, users, videos)
    assert found.user.tolist() == [3, 5, 8]
    assert found.recall.tolist() == [0.5, 0, 0]
    at_2 = 1 / np.log2(3)
    assert found.ndcg.tolist() == pytest.approx([at_2 / (1 + at_2), 0, 0])


def test_segments_smallest_size_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a surface is measured beside the list of everything, whose difference to itself is not told."""
    data, out = kuairand_files(tmp_path), tmp_path / "out"
    monkeypatch.setattr(segments, "K", 3)
    arguments = ["--data", str(data), "--chosen", "2022-05-03", "--confirmed", "2022-05-04"]
    segments.main([*arguments, "--out", str(out)])
    rows = json.loads((out / "results.json").read_text())
    assert {row["split"].rpartition(", ")[2] for row in rows} == {"surface=tab=0"}, (
        "tab=1 is the main surface"
    )
    names = {row["name"] for row in rows}
    assert names == {"users", "all", "popular there", "list of the surface", "popular there - all",
                     "list of the surface - all"}  # fmt: skip


def test_watch_edges_of_kuairand_equal_hand_computed() -> None:
    """Strength is the middle rank within day and duration bucket; a dislike takes back what came before it."""
    day = dt.date(2022, 5, 4)
    midnight = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp() * 1000)
    lines = [
        # user, video, milliseconds after midnight of the day, watched, disliked
        (0, 0, 1000, 20_000, 0),
        (1, 0, 2000, 4_000, 0),
        (2, 0, 3000, 0, 0),
        (0, 1, 4000, 1_000, 0),
        (0, 0, 1000 - 2 * 86_400_000, 20_000, 0),
        (0, 0, 1000 - 86_400_000, 20_000, 1),
    ]
    log = pd.DataFrame(
        lines, columns=["user_idx", "video_idx", "time_ms", "play_time_ms", "is_hate"]
    )
    log["time_ms"] += midnight
    log["duration_ms"] = 30_000
    log[kuairand.REACTIONS] = 0
    log = log.sort_values("time_ms", kind="stable").reset_index(drop=True)
    edges = kuairand_nights.watch_edges(log, day).to_pylist()
    by_key = {(e["split"], e["user_idx"], e["video_idx"]): e for e in edges}
    assert len(by_key) == len(edges) == 6
    # 20,000 ms is the longest of three on the day, 4,000 the middle one, 1,000 a skip.
    expected = {
        ("holdout", 0, 0): (5 / 6, 1, 0, False),
        ("holdout", 1, 0): (3 / 6, 0, 0, False),
        ("holdout", 2, 0): (1 / 2, 0, 0, False),
        ("holdout", 0, 1): (0, 0, 1, False),
        ("train", 0, 0): (0.5 * 0.5 ** (2 / 7), 1, 0, False),
        ("validation", 0, 0): (0, 0, 1, True),
    }
    for key, (weight, positive, negative, undone) in expected.items():
        edge = by_key[key]
        assert edge["weight"] == pytest.approx(weight)
        assert (edge["n_positive"], edge["n_negative"], edge["undone"]) == (
            positive,
            negative,
            undone,
        )


def test_delta_log_after_some_nights_reads_every_pin(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_log, "RUNS", 1)
    monkeypatch.setattr(delta_log, "PRUNED_EVERY", 2)
    rows = delta_log.run(str(place / "warehouse"), [1, 4], pruned=True)
    by_name = {(one["name"], one["split"]): one["value"] for one in rows}
    assert by_name["pins", "all"] == 1.0
    assert {split for _, split in by_name} == {"night 1", "night 4", "all"}
    warehouse = Warehouse.open()
    assert len(warehouse.partitions("candidates")) == 4 * 5
    assert len(warehouse.partitions("metrics")) == 4 * len(delta_log.STAGES)


def test_features_made_of_words_and_films_lie_between_chance_and_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(features, "FILM_SECONDS", 0.5)
    rows = features.quality([1], 64)
    by_name = {row["name"]: row["value"] for row in rows if row["metric"] == "same theme@10"}
    chance, truth = by_name.pop("limit:chance"), by_name.pop("limit:themes themselves")
    assert truth == pytest.approx(7 / 10)
    assert set(by_name) == {"words and tags", "words", "visual", "acoustic"}
    assert all(chance < value <= truth for value in by_name.values())
    everyone = np.eye(4)[[0, 0, 1, 1]]
    assert features.cold_recall(everyone, [np.array([0, 1])], np.array([1, 2])) == 1.0


def test_chains_hold_out_the_next_video_of_everybody() -> None:
    """A viewing a day towards the end, in order; most are successors of the one before."""
    config = chains.Config(users=200, videos=60, follow=0.8, successors=2)
    watched = chains.histories(config, np.random.default_rng(1))
    assert {len(history) for history in watched} == set(range(5, 11))
    assert all(len(set(history)) == len(history) for history in watched)
    steps = Counter((a, b) for history in watched for a, b in itertools.pairwise(history))
    commonest = Counter[int]()
    for (first, _), times in steps.most_common():
        commonest[first] = max(commonest[first], times)
    assert sum(commonest.values()) > 0.4 * sum(steps.values()), "chance has a tenth"
    lines = chains.log(config, watched)
    last = max(lines)
    assert lines[last]["video_id"].to_pylist() == [f"v{history[-1]:06d}" for history in watched]
    before = lines[last - dt.timedelta(days=1)]["video_id"].to_pylist()
    assert before == [f"v{history[-2]:06d}" for history in watched]
    every = pa.concat_tables(lines[day] for day in sorted(lines)).sort_by("started_at")
    for user in (0, 7):
        mine = every.filter(pc.equal(every["user_id"], f"u{user:06d}"))["video_id"].to_pylist()
        assert mine == [f"v{video:06d}" for video in watched[user]]


def test_people_are_left_out_folded_and_erased(place: Path) -> None:
    rows = people.run(place, n_users=40, nights=2, many=3)
    value = {(row["name"], row["metric"]): row["value"] for row in rows}
    assert {("ratio", "read a release"), ("erase 1", "CPU"), ("erase 3", "rewritten")} <= set(value)
    assert all(isinstance(each, float) and each > 0 for each in value.values())
    night = Night.open(people.FIRST + dt.timedelta(days=1), root=str(place / "warehouse"))
    # Of those whose request came last all but the erased are there to be left out.
    assert night.suppressed().num_rows == 40
    listed = night.warehouse.read("recommendations", day=people.FIRST)["user_id"].to_pylist()
    assert len(set(listed)) == 40 - 4


def test_erasures_from_copies_of_a_night_leave_nobody_and_whole_releases(place: Path) -> None:
    """Each night has files of its own, and each release its own version."""
    people_worlds.make(Warehouse.open(str(place / "night")), people_worlds.DAYS[:1])
    rows = erasure.run(place / "night", place / "lab", nights=3, many=2)
    value = {(row["name"], row["metric"], row["split"]): row["value"] for row in rows}
    assert value["prove", "hits", "all"] == 0
    assert value["prove", "releases", "all"] == 3
    assert value["erase 1", "files", "users"] == value["erase 2", "files", "users"] == 3
    assert value["erase 2", "rows", "recommendations"] == 2 * 2 * 3
    assert value["erase 2", "rewritten", "all"] > 0
    warehouse = Warehouse.open(str(place / "lab" / "warehouse"))
    days = {str(part["day"]) for part in warehouse.partitions("events")}
    assert len(days) == 3
    assert len(set(warehouse.read("recommendations")["user_id"].to_pylist())) == 6 - 3


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.long
def test_remembered_videos_grow_to_their_bound(place: Path) -> None:
    night = Warehouse.open(str(place / "night"))
    days = [dt.date(2026, 1, 4) + dt.timedelta(days=number) for number in range(2)]
    watched = [(user, video, day) for day in days for user in ("a", "b") for video in ("v", "w")]
    users, videos, on = (list(column) for column in zip(*watched, strict=True))
    rows = pa.table({"user_id": users, "video_id": videos, "day": on})
    rows = small_tables.complete("daily_watches", rows, without={"arrived_on"})
    rows = rows.append_column("arrived_on", pa.array(on, pa.date32()))
    night.write("daily_watches", rows, replace=[{"arrived_on": day} for day in days])
    results = remembered.run(str(place / "night"), str(place / "lab"), rounds=(2, 120))
    most = [row["value"] for row in results if row["metric"] == "rows of a user, most"]
    assert most == [2, 2, 4, 200]


def test_exports_are_timed_step_by_step(place: Path) -> None:
    warehouse = Warehouse.open(str(place / "warehouse"))
    exports.make(warehouse, n_users=100)
    rows = exports.measure(warehouse, "parquet", f"parquet:{place / 'store'}", 100)
    value = {row["metric"]: row["value"] for row in rows}
    steps = ("first", "replaced", "renewed", "withdrawn")
    assert {f"{step}, users/s" for step in steps} <= value.keys()
    assert all(isinstance(each, float) and each > 0 for each in value.values())


def test_readers_are_compared_with_the_release(place: Path) -> None:
    publish_row_of_each(Warehouse.open(), dt.date(2026, 1, 7))
    rows = readers.run(str(place / "warehouse"), engines=["polars"], kernel=None)
    compared = [row["value"] for row in rows if row["metric"] == "polars"]
    assert compared == [1.0] * len(RESULTS)


FLOOR_TRIAL = {"fit": "trial", "model": FLOOR}


def test_night_of_the_smallest_world_measures_tasks_up_to_the_first_that_fails(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        whole_night.nights,
        "jobs_of",
        lambda _: [("plan_night", {}), ("select_candidates", FLOOR_TRIAL)],
    )
    costs = whole_night.night(20, place)
    assert [name for name, _ in costs] == ["plan_night", "select_candidates trial popularity"]
    planned, failed = (cost for _, cost in costs)
    assert planned.why is None
    assert "MissingDay" in (failed.why or "")
    for cost in (planned, failed):
        assert 0 < cost.start_seconds <= cost.cpu_seconds
        assert cost.seconds > 0.1
        assert min(cost.peak_mb, cost.read_mb) > 0
        assert cost.written_mb >= 0  # The last look may come before what is written at the end.
    rows = {(each["name"], each["metric"]): each for each in whole_night.rows_of("20 users", costs)}
    total = rows["all tasks", "cpu_seconds"]["value"]
    assert total == pytest.approx(planned.cpu_seconds + failed.cpu_seconds)
    assert rows["select_candidates trial popularity", "failed"]["unit"] == failed.why


def test_night_slope_is_the_power_of_the_users_without_start_up() -> None:
    def cost(n_users: int) -> whole_night.Cost:
        return whole_night.Cost(0, 5 + (n_users / 100) ** 1.5, 5, 0, 0, 0)

    sizes = {n_users: [("task", cost(n_users))] for n_users in (400, 10_000, 90_000)}
    (row,) = whole_night.slopes(sizes)
    assert row["value"] == pytest.approx(1.5)


def test_night_peer_proposes_unseen_videos_of_likeminded_users(place: Path) -> None:
    pytest.importorskip("implicit")
    pytest.importorskip("polars")
    config = whole_night.world_of(60)
    world = generate(config, np.random.default_rng(2))
    write.write_world(str(place / "landing"), world.parts, truth={})
    day = whole_night.last_day(config)
    lists = night_peer.recommend(str(place / "landing"), threads=1, day=str(day))
    assert len(lists["user_id"]) == len(lists["video_id"]) > 50 * night_peer.K
    pairs = set(zip(lists["user_id"], lists["video_id"], strict=True))
    assert len(pairs) == len(lists["user_id"]), "no video twice"
