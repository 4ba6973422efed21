"""A video's row is the sum of what is known about it, and of nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.inputs.sequence_arrays import Exposures
from microrec.models.sequence.exposures import ExposureConfig, sequences_of
from microrec.models.sequence.video_rows import VideoRows
from tests.worlds import logs

NEVER, ON_D = (88, 89), (86, 87)
"""Videos of the world that are never shown, and that are shown on D alone."""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(logs.viewings(3), fit="trial")


def rows_of(graph: Graph, exposures: Exposures | None = None, **config: float) -> VideoRows:
    given = sequences_of(graph).exposures if exposures is None else exposures
    made = ExposureConfig(dim=4, **config)  # type: ignore[arg-type]
    return VideoRows(graph, given.video_idx, made, seeded())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def everything(rows: VideoRows, graph: Graph, seed: int = 0) -> torch.Tensor:
    return rows(torch.arange(graph.n_videos), seeded(seed))


def moved(before: torch.Tensor, after: torch.Tensor) -> list[int]:
    return torch.nonzero((before != after).any(dim=1)).flatten().tolist()


def test_row_is_the_sum_of_its_parts(graph: Graph) -> None:
    rows = rows_of(graph).eval()
    sequences = sequences_of(graph)
    vector = graph.features["visual"].vector
    shown = np.unique(sequences.exposures.video_idx)
    for video in range(graph.n_videos):
        seconds = graph.duration_ms[video] / 1000
        expected = rows.duration_id[int(np.log2(1 + seconds))].detach().clone()
        if video in shown:
            expected += rows.video_id[video]
        if graph.author[video]:
            expected += rows.author_id[graph.author[video]]
        length = np.linalg.norm(vector[video])
        if length > 0:
            expected += rows.project[0].weight @ torch.from_numpy(vector[video] / length)
        torch.testing.assert_close(everything(rows, graph)[video], expected)


@pytest.mark.parametrize("training", [False, True])
def test_row_of_a_cold_video_has_no_id(graph: Graph, training: bool) -> None:
    rows = rows_of(graph, id_dropout=0.0).train(training)
    before = everything(rows, graph)
    rows.video_id.data += 1
    assert moved(before, everything(rows, graph)) == [*range(86)]
    assert set(range(86, 90)) == {*ON_D, *NEVER}
    # nor does its id row learn
    rows(torch.arange(graph.n_videos), seeded()).sum().backward()
    assert rows.video_id.grad is not None
    assert rows.video_id.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [*range(86)]


def test_warm_videos_are_those_shown_in_training(graph: Graph) -> None:
    exposures = sequences_of(graph).exposures
    few = exposures.taken(np.isin(exposures.video_idx, [3, 5]))
    rows = rows_of(graph, few).eval()
    before = everything(rows, graph)
    rows.video_id.data += 1
    assert moved(before, everything(rows, graph)) == [3, 5]


def test_missing_modality_adds_nothing(graph: Graph) -> None:
    rows = rows_of(graph).eval()
    before = everything(rows, graph)
    rows.project[0].weight.data += 1
    present = graph.features["visual"].present
    assert moved(before, everything(rows, graph)) == np.flatnonzero(present).tolist()
    assert 0 < (~present).sum() < graph.n_videos / 2
    bare = rows_of(replace(graph, features={})).eval()
    assert torch.isfinite(everything(bare, graph)).all()
    assert not len(bare.project)


def test_vector_length_does_not_matter(graph: Graph) -> None:
    part = graph.features["visual"]
    longer = replace(part, vector=part.vector * np.arange(1, 91, dtype=np.float32)[:, None])
    other = replace(graph, features={"visual": longer})
    one, two = (everything(rows_of(one).eval(), one) for one in (graph, other))
    torch.testing.assert_close(one, two)


def test_author_of_one_video_has_no_row(graph: Graph) -> None:
    rows = rows_of(graph).eval()
    before = everything(rows, graph)
    rows.author_id.data += 1
    author = graph.author
    assert moved(before, everything(rows, graph)) == np.flatnonzero(author).tolist()
    assert not author[::8].any()
    assert (author > 0).mean() > 0.8


def test_ids_drop_out_in_training_only(graph: Graph) -> None:
    rows = rows_of(graph, id_dropout=0.3)
    whole = everything(rows.eval(), graph)
    assert torch.equal(everything(rows, graph, seed=1), whole)
    rows.train()
    share = []
    for seed in range(40):
        left = moved(whole, everything(rows, graph, seed))
        assert max(left) < 86
        share.append(len(left) / 86)
        # all of the id row and nothing else
        without = whole[left] - rows.video_id[left]
        torch.testing.assert_close(everything(rows, graph, seed)[left], without)
    assert np.mean(share) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(everything(rows, graph, 3), everything(rows, graph, 3))
    assert not torch.equal(everything(rows, graph, 3), everything(rows, graph, 4))


def test_described_videos_have_any_part(graph: Graph) -> None:
    sequences = sequences_of(graph)
    shown = np.bincount(sequences.exposures.video_idx, minlength=90) > 0
    assert shown.tolist() == [True] * 86 + [False] * 4
    somebody, looks = graph.author > 0, graph.features["visual"].present
    nobody = replace(graph, author=np.zeros_like(graph.author))
    unseen = replace(graph, features={})
    for one, known in (
        (graph, shown | somebody | looks),
        (nobody, shown | looks),
        (unseen, shown | somebody),
        (replace(nobody, features={}), shown),
    ):
        assert rows_of(one).known(one).tolist() == known.tolist()
    assert (looks & ~shown).any()
    assert (somebody & ~shown).any()
