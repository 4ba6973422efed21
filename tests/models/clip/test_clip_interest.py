"""FRAME: the equations, what is known when, and a planted world whose clips have an appeal."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from microrec.core import fitted
from microrec.core.fitted import Ranker, Trained
from microrec.errors import MicrorecError
from microrec.models import registry
from microrec.models.clip import clip_interest
from microrec.models.clip.clip_interest import ClipInterest, Config, Reader, clips_of
from microrec.models.inputs.graph_arrays import Graph, build_graph
from microrec.models.sequence import exposures
from microrec.models.sequence.auc import grouped_auc
from microrec.models.training.runtime import Runtime
from tests.worlds import clips as clip_worlds

WORLD = clip_worlds.world(1)
SMALL = {"dim": 8, "hidden": (8,), "batch_size": 128, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return build_graph(WORLD.tables, fit="trial")


def config_of(**changed: Any) -> Config:
    return Config.model_validate({**SMALL, **changed})


def network_of(of: Graph, /, **changed: Any) -> ClipInterest:
    """A network none of whose parts is zero, as after training."""
    clips, generator = clips_of(of), torch.Generator().manual_seed(0)
    everything = clip_interest.viewings(clips.edges, clips)
    network = clip_interest.build(of, everything, config_of(**changed), generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def logits(network: ClipInterest, graph: Graph, user: Any, clip: Any, day: Any) -> np.ndarray:
    reader = Reader(clips_of(graph), network.config)
    arrays = (np.asarray(one, dtype=np.int64) for one in (user, clip, day))
    with torch.no_grad():
        return network(reader.pairs(*arrays)).numpy()


class Slow:
    """The equations as loops over edges."""

    def __init__(self, network: ClipInterest, graph: Graph) -> None:
        self.network, self.clips, self.config = network, clips_of(graph), network.config
        self.edges = self.clips.edges
        self.videos = network.videos(torch.arange(graph.n_videos), network.noise)

    def bare(self, clip: int) -> torch.Tensor:
        row = self.videos[self.clips.video[clip]] + self.network.place[self.clips.number[clip]]
        return row + self.network.own(torch.from_numpy(self.clips.vector[clip]))

    def z(self, clip: int) -> torch.Tensor:
        row, video = self.bare(clip), self.clips.video
        for layer, other in zip(self.network.beside, (clip - 1, clip + 1), strict=True):
            inside = 0 <= other < len(video) and video[other] == video[clip]
            if self.config.neighbours and inside:
                row = row + layer(self.bare(other))
        return row

    def mean(self, there: Any, day: int, row: Any) -> torch.Tensor:
        edges = self.edges
        places = np.flatnonzero(there & (edges.day < day)) if self.config.graph else []
        weight = {at: edges.weight[at] * 0.5 ** ((day - edges.day[at]) / 7) for at in places}
        total = torch.zeros(self.config.dim)
        for at, w in weight.items():
            total = total + float(w / sum(weight.values())) * row(at)
        return total

    def person(self, user: int, day: int, through: bool) -> torch.Tensor:
        there = (self.edges.user_idx == user) & (self.edges.through == through)
        mean = self.mean(there, day, lambda at: self.z(self.edges.clip[at]))
        return torch.relu(self.network.to_people(mean))

    def of_clip(self, clip: int, day: int) -> torch.Tensor:
        total = self.network.content(self.z(clip))
        for through in (True, False):
            there = (self.edges.clip == clip) & (self.edges.through == through)
            said = self.mean(
                there, day, lambda at, t=through: self.person(self.edges.user_idx[at], day, t)
            )
            total = total + 0.5 * torch.relu(self.network.to_clips(said))
        return total

    def logit(self, user: int, clip: int, day: int, evidence: torch.Tensor) -> torch.Tensor:
        network = self.network
        p, q = (self.person(user, day, one) for one in (True, False))
        g = self.of_clip(clip, day)
        stays = network.positive(torch.cat([g, p, evidence]), network.noise)
        leaves = network.negative(torch.cat([g, q, evidence]), network.noise)
        share = {
            "fixed": torch.tensor(0.8),
            "gate": torch.sigmoid(network.gate(torch.cat([p, q, g]))),
            "positive": torch.tensor(1.0),
        }[self.config.fusion]
        return share * stays - (1 - share) * leaves + network.counted(evidence)


@pytest.mark.parametrize(
    "changed",
    [{}, {"fusion": "fixed"}, {"fusion": "positive"}, {"neighbours": True}, {"graph": False}],
    ids=str,
)
def test_clip_interest_equals_the_equations(graph: Graph, changed: dict[str, Any]) -> None:
    """Against a loop over users, clips and edges that reads no index but the edges'."""
    network, clips = network_of(graph, **changed, fan_out=(500, 500)), clips_of(graph)
    rng = np.random.default_rng(3)
    user, clip = rng.integers(60, size=4), rng.integers(clips.n_clips, size=4)
    day = np.array([clips.today, clips.today, clips.today - 3, clips.today - 6])
    batch = Reader(clips, network.config).pairs(user, clip, day)
    with torch.no_grad():
        actual, slow = network(batch), Slow(network, graph)
        for at in range(4):
            expected = slow.logit(user[at], clip[at], day[at], batch.evidence[at])
            assert actual[at].item() == pytest.approx(expected.item(), abs=1e-4)


def test_clip_interest_day_is_predicted_from_the_days_before(graph: Graph) -> None:
    """Leak canary: turn every label from a day on; what is said of that day does not change."""
    network, clips = network_of(graph), clips_of(graph)
    day = clips.today - 2
    edges = clips.edges
    turned = replace(edges, through=edges.through ^ (edges.day >= day))
    assert (turned.through != edges.through).sum() > 100
    other = replace(graph, clips=replace(clips, edges=turned))
    asked = np.flatnonzero(edges.day == day)
    user, clip = edges.user_idx[asked], edges.clip[asked]
    before, after = (
        logits(network, one, user, clip, np.full(len(user), day)) for one in (graph, other)
    )
    np.testing.assert_array_equal(before, after)
    later = [
        logits(network, one, user, clip, np.full(len(user), day + 1)) for one in (graph, other)
    ]
    assert (later[0] != later[1]).mean() > 0.9


def test_neighbourhoods_are_bounded(graph: Graph) -> None:
    clips = clips_of(graph)
    batch = Reader(clips, config_of(fan_out=(4, 2))).pairs(
        np.arange(60), np.arange(60), np.full(60, clips.today)
    )
    for links, most in zip((*batch.user_links, *batch.clip_links), (4, 4, 2, 2), strict=True):
        assert links.edges[1].bincount().max() == most


def test_clip_interest_batch_equals_one_by_one(graph: Graph) -> None:
    network, clips = network_of(graph), clips_of(graph)
    rows = clip_interest.all_rows(network, graph)
    rng = np.random.default_rng(0)
    user, video = rng.integers(60, size=300), rng.integers(graph.n_videos, size=300)
    for place, clip, chance in clip_interest.stays(network, rows, user, video):
        one = logits(network, graph, user[place], clip, np.full(len(clip), clips.today))
        np.testing.assert_allclose(chance, -np.logaddexp(0, -one), atol=1e-4)
        assert len(place) == np.diff(clips.first)[video].sum()


def test_clip_interest_blocks_change_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(graph)
    user, video = np.repeat(np.arange(60), 40), np.tile(np.arange(40), 60)
    whole = clip_interest.scores(network, graph, user, video)
    share = clip_interest.audience(network, graph, [np.arange(60)])
    monkeypatch.setattr(clip_interest, "SCORED_AT_ONCE", 7)
    monkeypatch.setattr(clip_interest, "ROWS_AT_ONCE", 11)
    np.testing.assert_allclose(clip_interest.scores(network, graph, user, video), whole, atol=1e-4)
    np.testing.assert_allclose(
        clip_interest.audience(network, graph, [np.arange(60)]), share, atol=1e-5
    )


def test_score_is_the_chance_to_reach_the_goal(graph: Graph) -> None:
    """12 s: two clips of 5 s and two fifths of the third."""
    network, clips = network_of(graph, goal_ms=12_000), clips_of(graph)
    user, video = np.arange(40) % 7, np.arange(40)
    scores = clip_interest.scores(network, graph, user, video)
    for at in range(40):
        span = np.arange(*clips.first[video[at] : video[at] + 2])
        chance = 1 / (
            1
            + np.exp(
                -logits(network, graph, [user[at]] * len(span), span, [clips.today] * len(span))
            )
        )
        part = np.array([1.0, 1.0, 0.4, *[0.0] * 9])[: len(span)]
        assert scores[at] == pytest.approx((part * np.log(chance)).sum(), abs=1e-4)


def test_score_of_a_video_of_unknown_length_is_last(graph: Graph) -> None:
    clips = clips_of(graph)
    first = clips.first.copy()
    first[5:] -= first[5] - first[4]
    gone = clips.video == 4
    edges = clips.edges.taken(~gone[clips.edges.clip])
    renumbered = replace(edges, clip=edges.clip - (clips.video[edges.clip] > 4) * gone.sum())
    fewer = replace(
        clips, first=first, end_ms=clips.end_ms[~gone], vector=clips.vector[~gone],
        edges=renumbered,
    )  # fmt: skip
    other = replace(graph, clips=fewer)
    scores = clip_interest.scores(network_of(other), other, np.zeros(40, int), np.arange(40))
    assert scores[4] == clip_interest.NO_CLIPS < np.delete(scores, 4).min()
    assert np.isfinite(scores).all()


def test_audience_is_a_mean_over_its_members(graph: Graph) -> None:
    network, clips = network_of(graph), clips_of(graph)
    groups = [np.array([3, 9, 11]), np.array([], dtype=int), np.array([0])]
    actual = clip_interest.audience(network, graph, groups)
    assert np.isnan(actual[1]).all()
    for row, group in zip(actual, groups, strict=True):
        for video in (0, 7, 39):
            span = np.arange(*clips.first[video : video + 2])
            curves = []
            for user in group:
                s = logits(network, graph, [user] * len(span), span, [clips.today] * len(span))
                curves.append(np.cumprod(1 / (1 + np.exp(-s))))
            if curves:
                np.testing.assert_allclose(row[span], np.mean(curves, axis=0), atol=1e-5)


def test_pairs_compare_viewers_of_one_clip(graph: Graph) -> None:
    clips = clips_of(graph)
    some = clip_interest.viewings(clips.edges, clips)
    batch = Reader(clips, config_of()).viewings(some.taken(np.arange(200)))
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(len(batch.label), generator=generator)
    least, most, n_left = 0.0, 0.0, 0
    for clip in range(len(batch.targets)):
        mine = batch.target == clip
        stayed, left = value[mine & (batch.label > 0)], value[mine & (batch.label == 0)]
        if len(stayed):
            least += torch.log1p(torch.exp(left - stayed.max())).sum().item()
            most += torch.log1p(torch.exp(left - stayed.min())).sum().item()
            n_left += len(left)
    assert n_left > 20
    loss = clip_interest.across(value, batch, generator).item()
    assert least / n_left < loss < most / n_left


def test_pairs_teach_nothing_of_clips_and_places(graph: Graph) -> None:
    """A hazard that is the same for everybody stays as it is, wherever in a video it lies."""
    clips = clips_of(graph)
    some = clip_interest.viewings(clips.edges, clips)
    batch = Reader(clips, config_of()).viewings(some.taken(np.arange(200)))
    of_clip = torch.zeros(len(batch.targets), dtype=torch.float64, requires_grad=True)
    loss = clip_interest.across(of_clip[batch.target], batch, torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(loss, of_clip)
    assert loss.item() == pytest.approx(np.log(2))
    assert gradient.abs().max().item() < 1e-12


def test_video_first_seen_on_the_validation_day_has_no_row_in_search(graph: Graph) -> None:
    clips = clips_of(graph)
    everything = clip_interest.viewings(clips.edges, clips)
    few = everything.taken(np.arange(5))
    network = clip_interest.build(graph, few, config_of(), torch.Generator().manual_seed(0))
    seen = np.unique(clips.video[clips.edges.clip[few.start]])
    assert np.flatnonzero(network.videos.warm.numpy()).tolist() == seen.tolist()


def test_viewings_are_the_pairs_of_a_day(graph: Graph) -> None:
    clips = clips_of(graph)
    viewings = clip_interest.viewings(clips.edges, clips)
    edges = clips.edges
    pairs = {*zip(edges.day, edges.user_idx, clips.video[edges.clip], strict=True)}
    assert len(viewings) == len(pairs)
    assert (viewings.end - viewings.start).sum() == len(edges)


def fit(graph: Graph, seed: int = 0, runtime: Runtime | None = None, **changed: Any) -> Trained:
    rng = np.random.default_rng(seed)
    return clip_interest.fit(graph, config_of(**changed), rng, runtime=runtime)


def test_fit_same_seed_is_equal_and_restores(graph: Graph, tmp_path: Any) -> None:
    one, again, other = fit(graph), fit(graph), fit(graph, seed=1)
    assert isinstance(one.fitted, Ranker)
    assert one.report == again.report
    assert one.report["epochs"] == 1 + int(np.argmax(one.report["recalls"]))
    for name, value in one.parameters.items():
        assert value.tobytes() == again.parameters[name].tobytes(), name
    assert any(
        other.parameters[name].tobytes() != v.tobytes() for name, v in one.parameters.items()
    )
    fitted.save(one, tmp_path, config=config_of())
    network = exposures.load("clip_interest", tmp_path, graph, device="cpu")
    user, video = np.arange(40), np.arange(40)
    scores = clip_interest.scores(network, graph, user, video)
    direct = clip_interest.restore(graph, config_of(), one.parameters)
    assert scores.tobytes() == clip_interest.scores(direct, graph, user, video).tobytes()
    assert len(np.unique(scores)) > 30


def test_fit_interrupted_resumes(graph: Graph, tmp_path: Any) -> None:
    whole = fit(graph, epochs=3)
    kept = Runtime(checkpoints=tmp_path)
    fit(graph, runtime=kept, epochs=3)
    assert fit(graph, runtime=kept, epochs=3).report == whole.report


def test_fit_without_clips_is_refused(graph: Graph) -> None:
    with pytest.raises(MicrorecError, match="clip_edges"):
        fit(replace(graph, clips=None))
    assert registry.card("clip_interest").kind == "ranking"


def test_fit_without_examples_is_no_error() -> None:
    empty = {**WORLD.tables, "clip_edges": WORLD.tables["clip_edges"].slice(0, 0)}
    graph = build_graph(empty, fit="final")
    trained = fit(graph)
    network = clip_interest.restore(graph, config_of(), trained.parameters)
    scores = clip_interest.scores(network, graph, np.arange(40), np.arange(40))
    assert np.isfinite(scores).all()


def test_fit_planted_interest_is_recovered(graph: Graph) -> None:
    """Hazards of an audience against the truth: also of clips nobody has reached, by their vectors."""
    trained = fit(graph, dim=16, hidden=(64,))
    network = clip_interest.restore(graph, config_of(dim=16, hidden=(64,)), trained.parameters)
    share = clip_interest.audience(network, graph, [np.arange(60)])[0]
    clips = clips_of(graph)
    hazard = 1 - share / np.where(clips.number == 0, 1.0, np.roll(share, 1))
    for part in (WORLD.cold, ~WORLD.cold):
        assert spearmanr(hazard[part], WORLD.hazard[part]).statistic > 0.85
    # Vectors of other clips say nothing of cold ones.
    shuffled = clips.vector[np.random.default_rng(0).permutation(clips.n_clips)]
    blind = replace(graph, clips=replace(clips, vector=shuffled))
    lost = clip_interest.restore(
        blind, config_of(dim=16, hidden=(64,)), fit(blind, dim=16, hidden=(64,)).parameters
    )
    share = clip_interest.audience(lost, blind, [np.arange(60)])[0]
    hazard = 1 - share / np.where(clips.number == 0, 1.0, np.roll(share, 1))
    assert abs(spearmanr(hazard[WORLD.cold], WORLD.hazard[WORLD.cold]).statistic) < 0.6


def test_fit_patient_users_stay_longer(graph: Graph) -> None:
    trained = fit(graph, dim=16)
    network = clip_interest.restore(graph, config_of(dim=16), trained.parameters)
    user, video = np.repeat(np.arange(60), 40), np.tile(np.arange(40), 60)
    score = clip_interest.scores(network, graph, user, video).reshape(60, 40).mean(axis=1)
    assert spearmanr(score, WORLD.patience).statistic > 0.8


def test_fit_planted_taste_is_found_by_the_graph() -> None:
    """Of two viewers of a clip, who left and who stayed: their other clips tell, counts of them cannot."""
    world = clip_worlds.world(1, n_users=100, n_videos=80, n_viewings=8_000, taste=2.0)
    graph = build_graph(world.tables, fit="trial")
    everything = clips_of(build_graph(world.tables, fit="final")).edges
    today = clips_of(graph).today
    later = everything.taken(everything.day >= today)
    told = {}
    for by_graph in (True, False):
        config = Config(graph=by_graph, epochs=15)
        trained = clip_interest.fit(graph, config, np.random.default_rng(0))
        network = clip_interest.restore(graph, config, trained.parameters)
        value = logits(network, graph, later.user_idx, later.clip, np.full(len(later), today))
        told[by_graph] = grouped_auc(value, later.through, later.clip)
    assert told[True] > 0.75, told
    assert told[False] < 0.65, told
