r"""Users' preferences per modality: watch graph, video graphs per modality, preference graph.

After Lei et al. 2023, "Learning the User's Deeper Preferences for Multi-Modal Recommendation
Systems" (LUDP), in the form of models.md 3.2; LightGCN is He et al. 2020. N_u: u's positive
videos, S^m: the frozen graph of nearest videos by modality m, f^m: feature vectors.

    e        = mean_{l = 0..L} sym(R)^l E                        (users and videos)
    h_i^m    = sym(S^m)^{L_i} E_I,         h_i = sum_m softmax_m(q tanh(W h_i^m + b)) h_i^m
    c_i^m    = W_m f_i^m + b_m,            p_u^m = sum_{i in N_u} row(R)_ui c_i^m
    p_u, c_i = attention over m, as for h, with weights of their own
    score    = < e_u + norm(p_u),  e_i + norm(h_i) + norm(c_i) >

Decided here: a missing modality is masked in every mean and attention; a cold video (no positive
edge) has no id row, neither its own nor as somebody's neighbour; negatives are warm videos.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.models import losses, propagation
from microrec.models.data import EarlyStopping, Edges, Graph, binary_matrix, unit_rows
from microrec.models.fitted import Embeddings, Trained
from microrec.models.propagation import SparseConv
from microrec.models.sampling import Sampler, Triples
from microrec.models.training import History, Schedule, train, validation_recall


class Config(BaseModel):
    """Shape of the model and of its training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: PositiveInt = 64
    """Size of every embedding."""
    layers: int = Field(default=2, ge=0)
    """L, propagations over the watch graph."""
    video_layers: PositiveInt = 1
    """L_i, propagations over each video graph."""
    edge_weight: Literal["one", "similarity"] = "one"
    """Edges of the video graphs: all alike (FREEDOM) or by cosine (LATTICE)."""
    pref_source: Literal["features", "video_graph"] = "features"
    """What the preference graph carries: projected features, or each modality's h (the survey's
    reading; features then take no part)."""
    strict: bool = False
    """Leave norm(c_i) out of the video's row."""
    centre: tuple[str, ...] = ()
    """Modalities whose mean vector is taken off first."""
    l2: NonNegativeFloat = 1e-2
    """Weight of the squared id rows of a batch. 1e-4 in the literature, on histories ten times as
    long; on KuaiRand-Pure 1e-4 to 1e-1 differ by less than the noise of recall."""
    learning_rate: PositiveFloat = 5e-3
    """Adam's."""
    batch_size: PositiveInt = 8192
    """Triples a step; every step propagates the whole graph. Fewer where there are fewer edges."""
    max_epochs: PositiveInt = 100
    """Most epochs while looking for the best number; one epoch draws as many triples as edges."""
    patience: PositiveInt = 5
    """Epochs in a row without a better validation recall after which the search ends."""
    validation_k: PositiveInt = 20
    """Length of the lists of the validation."""
    validation_users: PositiveInt = 10_000
    """Most users validated on; a sample where there are more."""
    epochs: PositiveInt | None = None
    """Set: train for exactly so many epochs (a final fit: those its trial chose)."""
    default_epochs: PositiveInt = 20
    """Epochs where there is neither `epochs` nor anything to validate on."""


def fit(graph: Graph, config: Config, rng: np.random.Generator) -> Trained:
    """Choose the number of epochs on the validation part, then fit on all the fit's edges."""
    search, refit = rng.spawn(2)
    held = graph.early_stopping
    report: dict[str, Any] = {"epochs": config.epochs or config.default_epochs}
    if not Sampler(graph.edges, n_videos=graph.n_videos).n_edges:
        return Trained(_nothing_known(graph, config.dim), report)
    if config.epochs is None and held and _can_be_judged(held, graph):
        history = _search(graph, held, config, search)
        recall = f"validation_recall@{config.validation_k}"
        report = {"epochs": history.best, recall: max(history.recalls)}
    schedule = Schedule(config.learning_rate, epochs=report["epochs"])
    model, history = _train(graph, config, refit, schedule)
    return Trained(_embeddings(model, graph), {**report, "loss": history.losses[-1]})


@dataclass(frozen=True, eq=False)
class Inputs:
    """The graphs and vectors, normalised and masked, as the model takes them.

    Shapes:
        warm: [n_videos]; has_similar, has_vector: [n_videos, n_modalities];
        has_taste: [n_users, n_modalities]; vectors: [n_videos, dim of the modality]
    """

    n_users: int
    warm: Tensor
    watched: SparseConv
    similar: list[SparseConv]
    has_similar: Tensor
    vectors: list[Tensor]
    has_vector: Tensor
    taste: list[SparseConv]
    """Per modality (of the vectors or of the video graphs): mean over N_u of those that have it."""
    has_taste: Tensor


class PreferenceGCN(nn.Module):
    """The parameters and the equations.

    Shapes:
        forward: user_idx [n] -> rows of those users [n, dim], rows of all videos [n_videos, dim]
    """

    def __init__(self, inputs: Inputs, config: Config, generator: torch.Generator) -> None:
        """Draw the parameters (Xavier-uniform)."""
        super().__init__()
        self.inputs, self.config = inputs, config
        self.user_id = _xavier(inputs.n_users, config.dim, generator)
        self.video_id = _xavier(len(inputs.warm), config.dim, generator)
        self.projections = nn.ParameterList(
            _xavier(vectors.shape[1], config.dim, generator) for vectors in inputs.vectors
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(config.dim)) for _ in inputs.vectors
        )
        self.merge_similar = ModalityAttention(config.dim, generator)
        self.merge_taste = ModalityAttention(config.dim, generator)

    def forward(self, user_idx: Tensor) -> tuple[Tensor, Tensor]:
        """Rows whose inner products are the scores; modalities are merged for the asked users only."""
        given, config = self.inputs, self.config
        video_id = self.video_id * given.warm.unsqueeze(1)  # [n_videos, dim], cold rows zero
        user, video = self._collaborative(video_id)
        similar = [self._propagate(graph, video_id) for graph in given.similar]
        video = video + functional.normalize(self.merge_similar(similar, given.has_similar))
        from_features = config.pref_source == "features"
        carried = self._project() if from_features else similar
        tastes = [
            functional.embedding(user_idx, mean(rows))  # [n, dim]
            for mean, rows in zip(given.taste, carried, strict=True)
        ]
        taste = self.merge_taste(tastes, given.has_taste[user_idx])
        user = functional.embedding(user_idx, user) + functional.normalize(taste)
        if from_features and not config.strict:
            video = video + functional.normalize(self.merge_taste(carried, given.has_vector))
        return user, video

    def _collaborative(self, video_id: Tensor) -> tuple[Tensor, Tensor]:
        """LightGCN: the mean over the layers, cold videos at zero."""
        rows = total = torch.cat([self.user_id, video_id])  # [n_users + n_videos, dim]
        for _ in range(self.config.layers):
            rows = self.inputs.watched(rows)
            total = total + rows
        mean = total / (self.config.layers + 1)
        return mean[: self.inputs.n_users], mean[self.inputs.n_users :]

    def _propagate(self, graph: SparseConv, rows: Tensor) -> Tensor:
        """h^m: id rows gathered from the nearest videos. [n_videos, dim]."""
        for _ in range(self.config.video_layers):
            rows = graph(rows)
        return rows

    def _project(self) -> list[Tensor]:
        """c^m of each modality. [n_videos, dim]."""
        parts = zip(self.inputs.vectors, self.projections, self.biases, strict=True)
        return [vectors @ weight + bias for vectors, weight, bias in parts]


class ModalityAttention(nn.Module):
    """sum_m a^m x^m with a^m = softmax_m(q tanh(W x^m + b)) over the modalities that are present.

    Shapes:
        forward: n_modalities of [n, dim], present [n, n_modalities] -> [n, dim]; 0 where none is
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        """Draw the query network."""
        super().__init__()
        self.weight = _xavier(dim, dim, generator)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.query = _xavier(dim, 1, generator)

    def forward(self, parts: list[Tensor], present: Tensor) -> Tensor:
        """Merge."""
        if not parts:
            return self.bias.new_zeros(len(present), len(self.bias))
        if len(parts) == 1:  # the softmax over one modality is 1
            return parts[0] * present
        stacked = torch.stack(parts, dim=1)  # [n, n_modalities, dim]
        logits = (torch.tanh(stacked @ self.weight + self.bias) @ self.query).squeeze(-1)
        # A finite floor: a row without any modality would be 0/0 under -inf.
        logits = logits.masked_fill(~present, torch.finfo(logits.dtype).min)
        share = torch.softmax(logits, dim=1) * present  # [n, n_modalities]
        return torch.einsum("nm,nmd->nd", share, stacked)


def prepare(graph: Graph, edges: Edges, config: Config) -> Inputs:
    """Normalise the graphs of a fit once, and note who has which modality."""
    size = {"n_users": graph.n_users, "n_videos": graph.n_videos}
    watched = binary_matrix(edges, **size)
    warm = np.bincount(edges.video_idx, minlength=graph.n_videos) > 0
    similar = [
        propagation.neighbour_matrix(
            pairs,
            n_nodes=graph.n_videos,
            keep=warm,
            by_similarity=config.edge_weight == "similarity",
        )
        for pairs in graph.modality_edges.values()
    ]
    has_similar = [np.diff(matrix.indptr) > 0 for matrix in similar]
    units = [unit_rows(part, centre=name in config.centre) for name, part in graph.features.items()]
    has_vector = [present for _, present in units]
    carried = has_vector if config.pref_source == "features" else has_similar
    tastes = [propagation.row(_only(watched, present)) for present in carried]
    return Inputs(
        n_users=graph.n_users,
        warm=torch.from_numpy(warm),
        watched=SparseConv(propagation.sym(propagation.bipartite(watched)), symmetric=True),
        similar=[SparseConv(propagation.sym(matrix)) for matrix in similar],
        has_similar=_columns(has_similar, graph.n_videos),
        vectors=[torch.from_numpy(vectors) for vectors, _ in units],
        has_vector=_columns(has_vector, graph.n_videos),
        taste=[SparseConv(matrix) for matrix in tastes],
        has_taste=_columns([np.diff(matrix.indptr) > 0 for matrix in tastes], graph.n_users),
    )


def batch_loss(model: PreferenceGCN, triples: Triples) -> Tensor:
    """BPR of the batch's scores plus L2 of its id rows, before any propagation.

    Rows are taken with `functional.embedding`: its gradient adds them up in a fixed order, that of
    `rows[index]` on several threads does not.
    """
    u, video = model(triples.user)  # [n_triples, dim], [n_videos, dim]
    i, j = (functional.embedding(idx, video) for idx in (triples.positive, triples.negative))
    id_rows = (
        functional.embedding(triples.user, model.user_id),
        functional.embedding(triples.positive, model.video_id),
        functional.embedding(triples.negative, model.video_id),
    )
    difference = losses.bpr((u * i).sum(dim=1), (u * j).sum(dim=1))
    return difference + model.config.l2 * losses.half_squares(*id_rows)


def _search(graph: Graph, held: EarlyStopping, config: Config, rng: np.random.Generator) -> History:
    """Train on the training part until the recall of the validation part stops rising."""
    people = np.unique(held.truth.user_idx)
    if len(people) > config.validation_users:
        people = rng.choice(people, config.validation_users, replace=False)
    truth = held.truth.where(np.isin(held.truth.user_idx, people))
    schedule = Schedule(config.learning_rate, config.max_epochs, config.patience)
    return _train(graph, config, rng, schedule, held=replace(held, truth=truth))[1]


def _train(
    graph: Graph,
    config: Config,
    rng: np.random.Generator,
    schedule: Schedule,
    *,
    held: EarlyStopping | None = None,
) -> tuple[PreferenceGCN, History]:
    """Fit a fresh model to all the graph's edges, or to those `held` is judged after."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    edges = held.edges if held else graph.edges
    model = PreferenceGCN(prepare(graph, edges, config), config, generator)
    sampler = Sampler(edges, n_videos=graph.n_videos)
    size = min(config.batch_size, sampler.n_edges)

    def batches() -> Iterator[Triples]:
        for _ in range(-(-sampler.n_edges // size)):
            yield sampler.draw(size, generator)

    @torch.no_grad()
    def recall() -> float:
        user, video = model(torch.arange(graph.n_users))
        k, eligible = config.validation_k, graph.eligible
        return validation_recall(user, video, cast(EarlyStopping, held), eligible=eligible, k=k)

    history = train(
        model,
        batches=batches,
        loss=partial(batch_loss, model),
        schedule=schedule,
        recall=recall if held else None,
    )
    return model, history


def _can_be_judged(held: EarlyStopping, graph: Graph) -> bool:
    """Whether there is something to learn before the validation day and to find on it."""
    return len(held.truth) > 0 and Sampler(held.edges, n_videos=graph.n_videos).n_edges > 0


@torch.no_grad()
def _embeddings(model: PreferenceGCN, graph: Graph) -> Embeddings:
    """The rows of the fitted model; users without a positive video are unknown."""
    user, video = model(torch.arange(graph.n_users))
    given = model.inputs
    n_positive = np.bincount(graph.edges.user_idx, minlength=graph.n_users)
    side = given.has_similar.any(dim=1)
    if model.config.pref_source == "features" and not model.config.strict:
        side = side | given.has_vector.any(dim=1)
    known = n_positive > 0
    return Embeddings(
        user=np.where(known[:, None], user.numpy(), np.float32(0)),
        video=video.numpy(),
        user_known=known,
        video_known=(given.warm | side).numpy(),
    )


def _nothing_known(graph: Graph, dim: int) -> Embeddings:
    """For a night in which no user likes one video and not another."""
    return Embeddings(
        user=np.zeros((graph.n_users, dim), dtype=np.float32),
        video=np.zeros((graph.n_videos, dim), dtype=np.float32),
        user_known=np.zeros(graph.n_users, dtype=np.bool_),
        video_known=np.zeros(graph.n_videos, dtype=np.bool_),
    )


def _only(watched: Any, present: Any) -> Any:
    """R without the videos that lack a modality. CSR [n_users, n_videos]."""
    kept = (watched @ sp.diags_array(present.astype(np.float64))).tocsr()
    kept.eliminate_zeros()
    return kept


def _columns(masks: list[Any], n_rows: int) -> Tensor:
    """Masks side by side. [n_rows, n_masks]."""
    joined = np.stack(masks, axis=1) if masks else np.zeros((n_rows, 0), dtype=np.bool_)
    return torch.from_numpy(joined)


def _xavier(n_rows: int, n_columns: int, generator: torch.Generator) -> nn.Parameter:
    """A Xavier-uniform matrix [n_rows, n_columns]."""
    return nn.Parameter(
        nn.init.xavier_uniform_(torch.empty(n_rows, n_columns), generator=generator)
    )
