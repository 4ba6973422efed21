"""On a sample of the real logs: every number the night computes fast, computed again slowly."""

import contextlib
import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest

from microrec.config.settings import settings
from microrec.core import fitted
from microrec.errors import GateHeld
from microrec.landing import zone
from microrec.landing.importers import kuairand
from microrec.tables.arrow import Warehouse
from tests.worlds.nights import call, run_trial

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.realdata]

DAY = dt.date(2022, 5, 4)
SHARE = 24
"""One user in so many is kept."""
K = 20
SPLITS = ["train", "validation"]


@pytest.fixture(scope="module")
def night(
    real_data: Path, tmp_path_factory: pytest.TempPathFactory, spark: object
) -> Iterator[Warehouse]:
    """The trial half of a night on one user in `SHARE`."""
    place = tmp_path_factory.mktemp("real")
    kuairand.import_files(real_data / "kuairand_pure", str(place / "whole"))
    landing_root = place / "landing"
    (place / "whole").rename(landing_root)
    for day in zone.days(str(landing_root), "raw_interactions"):
        for path in zone.files(str(landing_root), "raw_interactions", day):
            text = csv.ConvertOptions(column_types={"user_id": pa.string()})
            rows = csv.read_csv(path, convert_options=text)
            digest = [
                int(hashlib.md5(u.encode()).hexdigest(), 16) for u in rows["user_id"].to_pylist()
            ]
            keep = pa.array([number % SHARE == 0 for number in digest])
            with pa.CompressedOutputStream(str(path), "gzip") as out:
                csv.write_csv(rows.filter(keep), out)
    (place / "recipe.toml").write_text(
        f'[night]\nk = {K}\nmodels = ["popularity", "user_neighbours", "video_neighbours"]\n'
    )
    patch = pytest.MonkeyPatch()
    patch.setenv("MICROREC_WAREHOUSE", str(place / "warehouse"))
    patch.setenv("MICROREC_LANDING", str(landing_root))
    patch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    run_trial(DAY)
    yield Warehouse.open()
    patch.undo()
    settings.cache_clear()


def positives(warehouse: Warehouse, n_users: int, n_videos: int) -> np.ndarray:
    """The trial's positive edges, dense."""
    edges = warehouse.read("watch_edges", day=DAY)
    edges = edges.filter(pc.is_in(edges["split"], pa.array(SPLITS))).filter(
        pc.greater(pc.field("n_positive"), 0)
    )
    dense = np.zeros((n_users, n_videos))
    dense[edges["user_idx"].to_numpy(), edges["video_idx"].to_numpy()] = 1.0
    return dense


def sizes(warehouse: Warehouse) -> tuple[int, int]:
    return warehouse.read("users", day=DAY).num_rows, warehouse.read(
        "video_nodes", day=DAY
    ).num_rows


def test_pearson_real_neighbours_equal_brute_force(night: Warehouse) -> None:
    dense = positives(night, *sizes(night))
    exposed = dense[:, dense.any(axis=0)]
    active = np.flatnonzero(exposed.any(axis=1))
    slow = np.corrcoef(exposed[active])
    common = exposed[active] @ exposed[active].T
    n_liked = exposed[active].sum(axis=1)
    enough = common >= np.where(np.minimum.outer(n_liked, n_liked) < 3, 1, 2)
    slow = np.where(enough & (slow > 1e-9) & ~np.eye(len(active), dtype=bool), slow, -np.inf)
    rows = night.read("user_edges", day=DAY, fit="trial").to_pandas()
    assert len(rows) == np.minimum((slow > 0).sum(axis=1), 50).sum() > 1000
    place = {user: number for number, user in enumerate(active)}
    mine = rows["user_idx"].map(place).to_numpy()
    theirs = rows["neighbour_idx"].map(place).to_numpy()
    assert np.allclose(rows["pearson"], slow[mine, theirs], atol=1e-9)
    best = -np.sort(-np.round(slow, 9), axis=1)
    assert np.allclose(rows["pearson"], best[mine, rows["rank"] - 1], atol=1e-8)


def test_cosine_real_neighbours_equal_brute_force(night: Warehouse) -> None:
    features = night.read("video_features", day=DAY, modality="tags").to_pandas()
    nodes = night.read("video_nodes", day=DAY).to_pandas().set_index("video_id")["video_idx"]
    idx = nodes.loc[features["video_id"]].to_numpy()
    vectors = np.zeros((len(nodes), len(features["vector"].iloc[0])))
    vectors[idx] = np.stack(features["vector"].to_numpy())
    norms = np.linalg.norm(vectors, axis=1)
    unit = np.divide(vectors, norms[:, None], where=norms[:, None] > 0, out=np.zeros_like(vectors))
    rows = night.read("modality_edges", day=DAY).to_pandas()
    assert np.allclose(
        rows["similarity"],
        (unit[rows["video_idx"]] * unit[rows["neighbour_idx"]]).sum(1),
        atol=1e-5,
    )
    for video in idx[::97]:
        slow = unit @ unit[video]
        slow[video] = -1
        found = rows[rows["video_idx"] == video].sort_values("rank")
        expected = np.sort(slow[slow > 1e-6])[::-1][:10]
        assert np.allclose(found["similarity"], expected, atol=1e-5)
    # Thousands of videos share their only tag: no few of them may be everybody's neighbours.
    in_degree = rows["neighbour_idx"].value_counts()
    assert in_degree.max() < 10 * len(rows) / len(idx)


@pytest.mark.parametrize("model", ["popularity", "user_neighbours", "video_neighbours"])
def test_candidates_real_users_equal_brute_force(night: Warehouse, model: str) -> None:
    n_users, n_videos = sizes(night)
    liked = positives(night, n_users, n_videos)
    (row,) = night.read("models", day=DAY, fit="trial", model=model).to_pylist()
    found = fitted.load(night.open_artefact(row["path"], row["digest"]))
    if isinstance(found, fitted.Embeddings):
        scores = found.user.astype(np.float64) @ found.video.astype(np.float64).T
        scores[:, ~found.video_known] = -np.inf
    else:
        size = n_users if found.axis == "user" else n_videos
        weights = np.zeros((size, size))
        lines = np.repeat(np.arange(size), np.diff(found.indptr))
        weights[lines, found.neighbour] = found.similarity
        if found.axis == "user":
            scores = weights @ liked
        else:
            scores = (liked @ weights) / np.maximum(liked.sum(axis=1, keepdims=True), 1)
        scores[scores <= 0] = -np.inf
    edges = night.read("watch_edges", day=DAY)
    seen = edges.filter(pc.is_in(edges["split"], pa.array(SPLITS)))
    scores[seen["user_idx"].to_numpy(), seen["video_idx"].to_numpy()] = -np.inf
    scores[
        :, ~night.read("video_nodes", day=DAY)["eligible"].to_numpy(zero_copy_only=False)
    ] = -np.inf
    rows = night.read("candidates", day=DAY, fit="trial", source=model).to_pandas()
    assert len(rows) > 1000
    for user, mine in rows.groupby("user_idx"):
        ordered = mine.sort_values("rank")
        best = np.sort(scores[user][np.isfinite(scores[user])])[::-1][: 2 * K]
        assert len(ordered) == len(best)
        assert np.allclose(ordered["score"], best, rtol=1e-4)
        assert np.allclose(scores[user][ordered["video_idx"]], ordered["score"], rtol=1e-4)


def test_metrics_real_users_equal_brute_force(night: Warehouse) -> None:
    with contextlib.suppress(GateHeld):  # so small a sample may be held; what was measured counts
        call("evaluate_sources", DAY)
    figures = night.read("metrics", day=DAY, stage="evaluation").to_pandas()
    edges = night.read("watch_edges", day=DAY).to_pandas()
    known = edges[edges["split"].isin(SPLITS)]
    seen = set(zip(known["user_idx"], known["video_idx"], strict=True))
    truth: dict[int, set[int]] = {}
    for row in edges[(edges["split"] == "holdout") & (edges["n_positive"] > 0)].itertuples():
        if (row.user_idx, row.video_idx) not in seen:
            truth.setdefault(row.user_idx, set()).add(row.video_idx)
    assert len(truth) > 50
    for name in ("popularity", "video_neighbours", "user_neighbours"):
        rows = night.read("candidates", day=DAY, fit="trial", source=name).to_pandas()
        lists = (
            rows[rows["rank"] <= 20].sort_values("rank").groupby("user_idx")["video_idx"].agg(list)
        )
        recall, ndcg = [], []
        for user, right in truth.items():
            hits = [video in right for video in lists.get(user, [])]
            gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits))
            ideal = sum(1 / np.log2(place + 2) for place in range(min(len(right), 20)))
            recall.append(sum(hits) / len(right))
            ndcg.append(gain / ideal)
        mine = figures[(figures["name"] == name) & (figures["slice"] == "all")].set_index("metric")[
            "value"
        ]
        assert mine["recall@20"] == pytest.approx(np.mean(recall), abs=1e-6)
        assert mine["ndcg@20"] == pytest.approx(np.mean(ndcg), abs=1e-6)
