r"""Users' preferences per modality: watch graph, video graphs per modality, preference graph.

After Lei et al. 2023, "Learning the User's Deeper Preferences for Multi-Modal Recommendation
Systems" (LUDP), in the form of README.md, section 3.2; LightGCN is He et al. 2020. N_u: u's positive
videos, S^m: the frozen graph of nearest videos by modality m, f^m: feature vectors.

    e        = LightGCN(R, E)                                    (users and videos)
    h_i^m    = sym(S^m)^{L_i} E_I,         h_i = sum_m softmax_m(q tanh(W h_i^m + b)) h_i^m
    c_i^m    = W_m f_i^m + b_m,            p_u^m = n_u^-a sum_{i in N_u} c_i^m
    p_u, c_i = attention over m, as for h, with weights of their own
    score    = < e_u + norm(p_u),  e_i + norm(h_i) + norm(c_i) > (+ the popularity of i)

The defaults are not the published ones (`layers` 2, `user_rows` own, powers 1/2, `pref_power` 1,
`unit`, `merge` attention, `sampling` users, `loss` bpr, no popularity): tests/benchmarks/README.md
has what each is worth on real data.

Decided here: a missing modality is masked in every sum and attention; a cold video (no user
within the activity cap has liked it) has no id row, neither its own nor as somebody's neighbour;
negatives are warm videos. The parts can be switched off one by one, for the ablations: `layers`,
`similar`, `pref_source`, `merge`, `modalities`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from microrec.core.array_types import Bools
from microrec.models.graph import fitting, propagation
from microrec.models.graph.fitting import TrainingConfig, xavier
from microrec.models.graph.propagation import (
    Adjacency,
    AdjacencyConv,
    SparseConv,
    Watched,
    WatchGraph,
)
from microrec.models.graph.sampling import Triples
from microrec.models.inputs.graph_arrays import Edges, Graph, unit_rows


class Config(TrainingConfig):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["bpr", "softmax"] = "softmax"
    """`bpr`, as published, or all warm videos at once; what each is worth: tests/benchmarks/README.md."""
    sampling: Literal["users", "edges"] = "edges"
    """Draw a user and then one of the user's videos, or, unlike the published form, an edge."""
    l2: NonNegativeFloat = 0.0
    """Weight of the squared id rows of a batch."""
    learning_rate: PositiveFloat = 3e-3
    """Adam's."""
    batch_size: PositiveInt = 1024
    """Triples a step; every step propagates the whole graph. Fewer where there are fewer edges."""
    dim: PositiveInt = 64
    """Size of every row."""
    layers: int = Field(default=1, ge=0)
    """L, propagations over the watch graph; 0 leaves e to the videos alone."""
    user_rows: Literal["own", "none"] = "none"
    """Whether a user has an id row of its own, or is what the videos say."""
    user_power: float = Field(default=0.5, ge=0, le=1)
    """Power of 1 / n_u in a propagation over the watch graph."""
    video_power: float = Field(default=0.0, ge=0, le=1)
    """Power of 1 / n_v in a propagation over the watch graph."""
    similar: bool = True
    """Whether h, the video graphs per modality, takes part in the video's row."""
    video_layers: PositiveInt = 1
    """L_i, propagations over each video graph."""
    edge_weight: Literal["one", "similarity"] = "one"
    """Edges of the video graphs: all alike (FREEDOM) or by cosine (LATTICE)."""
    pref_source: Literal["features", "video_graph", "none"] = "features"
    """What the preference graph carries: projected features, each modality's h (the survey's
    reading; features then take no part), or nothing: neither p nor c takes part."""
    pref_power: float = Field(default=0.5, ge=0, le=1)
    """a, power of 1 / n_u in the preference graph; 1 is the mean. A sum that grows with the history
    (less than 1) lets taste outweigh popularity as more is known of a user."""
    strict: bool = False
    """Leave c_i out of the video's row."""
    merge: Literal["attention", "mean"] = "mean"
    """How modalities become one."""
    unit: bool = False
    """Bring p, h and c to length 1 before they are added (norm)."""
    modalities: tuple[str, ...] | None = None
    """Modalities that take part; None: all there are."""
    modality_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of a video's modalities that a training step does not see."""
    centre: tuple[str, ...] = ()
    """Modalities whose mean vector is taken off first."""
    popularity: bool = True
    """Add a learned score per video that is the same for everybody."""


@dataclass(frozen=True, eq=False)
class Content:
    """Inputs of the network about the videos besides who watched them.

    Shapes:
        has_similar: [n_videos, n_graphs]; vectors: [n_videos, dim of the modality];
        has_vector: [n_videos, n_modalities]
    """

    warm: Tensor
    similar: list[SparseConv]
    has_similar: Tensor
    vectors: list[Tensor]
    has_vector: Tensor


class PreferenceGCN(nn.Module):
    """The parameters and the equations.

    Shapes:
        forward: user_idx [n] and video_idx [m] -> rows of those users [n, dim] and videos [m, dim], of all videos
        where None are named; dim is one more with `popularity`
    """

    warm: Tensor
    has_similar: Tensor
    has_vector: Tensor
    USER_ROWS = ("user_id",)
    VIDEO_ROWS = ("video_id", "popularity")

    def __init__(
        self, watch: WatchGraph, content: Content, config: Config, generator: torch.Generator
    ) -> None:
        """Draw the parameters (Xavier-uniform)."""
        super().__init__()
        self.watch = watch
        self.config = config
        self.generator = generator
        if config.user_rows == "own":
            self.user_id = xavier(watch.n_users, config.dim, generator)
        self.video_id = xavier(watch.n_videos, config.dim, generator)
        self.projections = nn.ParameterList(
            xavier(vectors.shape[1], config.dim, generator) for vectors in content.vectors
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(config.dim)) for _ in content.vectors
        )
        attention = config.merge == "attention"
        self.merge_similar = ModalityAttention(config.dim, generator) if attention else None
        self.merge_taste = ModalityAttention(config.dim, generator) if attention else None
        if config.popularity:
            self.popularity = fitting.popularity_column(watch)
        self.similar = nn.ModuleList(content.similar)
        self.conv = AdjacencyConv()
        given = {name: getattr(content, name) for name in ("warm", "has_similar", "has_vector")}
        given |= {f"vectors_{m}": vectors for m, vectors in enumerate(content.vectors)}
        for name, tensor in given.items():
            self.register_buffer(name, tensor, persistent=False)  # given, not learned

    @property
    def one_hop(self) -> bool:
        """Whether the row of a node depends on its neighbours alone, so that few rows cost little."""
        config = self.config
        near = config.layers <= 1 and config.video_layers == 1
        return near and config.user_rows == "none" and config.pref_source != "video_graph"

    def forward(
        self, user_idx: Tensor, watched: Watched, video_idx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows whose inner products are the scores; modalities are merged for the asked users only."""
        if video_idx is not None and self.one_hop:
            return self._near(user_idx, video_idx, watched)
        config = self.config
        video_id = self.video_id * self.warm.unsqueeze(1)  # [n_videos, dim], cold rows zero
        users, video = self._collaborative(video_id, watched)
        if users is None:
            users = video.new_zeros(self.watch.n_users, config.dim)
        user = functional.embedding(user_idx, users)
        carried_h = [self._propagate(graph, video_id) for graph in self.similar]
        if config.similar and carried_h:
            video = video + self._unit(self._merge(self.merge_similar, carried_h, self.has_similar))
        if config.pref_source != "none":
            from_features = config.pref_source == "features"
            parts = self._project(self._vectors()) if from_features else carried_h
            present = self._seen(self.has_vector if from_features else self.has_similar)
            user = user + self._taste(parts, present, watched, user_idx)
            if from_features and not config.strict:
                video = video + self._unit(self._merge(self.merge_taste, parts, present))
        if config.popularity:
            user, video = fitting.with_column(user, video, self.popularity)
        return user, fitting.named(video, video_idx)

    def _near(self, user_idx: Tensor, video_idx: Tensor, watched: Watched) -> tuple[Tensor, Tensor]:
        """The rows of `forward`, made without those of other users and videos. [n, dim] and [m, dim]."""
        config = self.config
        users, back = torch.unique(user_idx, return_inverse=True)
        liked = watched.graph.rows(users)
        video_id = self.video_id * self.warm.unsqueeze(1)  # [n_videos, dim]
        video = functional.embedding(video_idx, video_id)
        user = video.new_zeros(len(users), config.dim)
        if config.layers:
            forth = watched.to_some(liked, config.user_power, config.video_power)
            user = self.conv(video_id, forth)
        if config.similar and len(self.similar):
            carried = [cast(SparseConv, graph).of(video_id, video_idx) for graph in self.similar]
            has_similar = self.has_similar[video_idx]
            video = video + self._unit(self._merge(self.merge_similar, carried, has_similar))
        if config.pref_source == "features":
            present = self._seen(self.has_vector)
            user = user + self._taste_of(watched.to_some(liked, 0.0, 0.0), present)
            if not config.strict:
                parts = self._project([rows[video_idx] for rows in self._vectors()])
                merged = self._merge(self.merge_taste, parts, present[video_idx])
                video = video + self._unit(merged)
        user = functional.embedding(back, user)
        if config.popularity:
            column = functional.embedding(video_idx, self.popularity)
            return fitting.with_column(user, video, column)
        return user, video

    def _collaborative(self, video_id: Tensor, watched: Watched) -> tuple[Tensor | None, Tensor]:
        """e: LightGCN, cold videos at zero."""
        config = self.config
        own = config.user_rows == "own"
        if config.layers == 0:
            return (self.user_id if own else None), video_id
        return propagation.light_gcn(
            self.user_id if own else None,
            video_id,
            forth=watched.to_users(config.user_power, config.video_power),
            back=watched.to_videos(config.user_power, config.video_power),
            layers=config.layers,
        )

    def _taste(
        self, parts: list[Tensor], present: Tensor, watched: Watched, user_idx: Tensor
    ) -> Tensor:
        """Taste, p, of the asked users, from the videos they liked that have the modality. [n, dim]."""
        if not parts:
            return self.video_id.new_zeros(len(user_idx), self.config.dim)
        forth = watched.to_users(0.0, 0.0)
        counts = self.conv(present.float(), forth)  # [n_users, n_modalities]
        tastes = [
            functional.embedding(user_idx, self.conv(rows * present[:, [m]], forth))  # [n, dim]
            for m, rows in enumerate(parts)
        ]
        return self._merged_taste(tastes, counts[user_idx])

    def _taste_of(self, forth: Adjacency, present: Tensor) -> Tensor:
        """Taste of the users of `forth`: vectors are added up first and projected then. [n, dim]."""
        counts = self.conv(present.float(), forth)  # [n, n_modalities]
        vectors = self._vectors()
        if present is not self.has_vector:  # vectors that are not there are zero as they are
            vectors = [rows * present[:, [m]] for m, rows in enumerate(vectors)]
        sums = [self.conv(rows, forth) for rows in vectors]
        tastes = self._project(sums, counts)
        if not tastes:
            return self.video_id.new_zeros(len(counts), self.config.dim)
        return self._merged_taste(tastes, counts)

    def _merged_taste(self, tastes: list[Tensor], counts: Tensor) -> Tensor:
        """Sums over the users' videos as one taste of the length that `pref_power` gives it. [n, dim]."""
        scale = torch.where(counts > 0, counts.clamp(min=1) ** -self.config.pref_power, 0.0)
        tastes = [rows * scale[:, [m]] for m, rows in enumerate(tastes)]
        return self._unit(self._merge(self.merge_taste, tastes, counts > 0))

    def _seen(self, present: Tensor) -> Tensor:
        """Modalities a step sees. [n_videos, n_modalities]."""
        if not (self.config.modality_dropout and torch.is_grad_enabled()):
            return present
        drawn = torch.rand(present.shape, generator=self.generator) >= self.config.modality_dropout
        return present & drawn.to(present.device)

    def _merge(
        self, attention: Callable[..., Tensor] | None, parts: list[Tensor], present: Tensor
    ) -> Tensor:
        """Modalities as one. [n, dim]."""
        if attention is not None:
            return attention(parts, present)
        if not parts:
            return self.video_id.new_zeros(len(present), self.config.dim)
        stacked = torch.stack(parts, dim=1) * present.unsqueeze(-1)  # [n, n_modalities, dim]
        return stacked.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)

    def _unit(self, rows: Tensor) -> Tensor:
        """norm, where the config asks for it."""
        return functional.normalize(rows) if self.config.unit else rows

    def _propagate(self, graph: nn.Module, rows: Tensor) -> Tensor:
        """h^m: id rows gathered from the nearest videos. [n_videos, dim]."""
        for _ in range(self.config.video_layers):
            rows = graph(rows)
        return rows

    def _vectors(self) -> list[Tensor]:
        """f^m of each modality. [n_videos, size of the modality]."""
        return [self.get_buffer(f"vectors_{m}") for m in range(len(self.projections))]

    def _project(self, vectors: list[Tensor], counts: Tensor | None = None) -> list[Tensor]:
        """c^m of each modality, or sums of so many of them (`counts`). [n, dim]."""
        parts = enumerate(zip(vectors, self.projections, self.biases, strict=True))
        if counts is None:
            return [rows @ weight + bias for _, (rows, weight, bias) in parts]
        return [
            torch.addmm(counts[:, [m]] * bias, rows, weight) for m, (rows, weight, bias) in parts
        ]

    def id_rows(self, triples: Triples) -> tuple[Tensor, ...]:
        """Return the rows of the triples before any propagation. [n_triples, dim] each."""
        own = self.user_id if self.config.user_rows == "own" else None
        return fitting.rows_of(triples, user_id=own, video_id=self.video_id)

    def known_videos(self) -> Bools:
        """Return the warm videos, and those that have similar videos or vectors where these count. [n_videos]."""
        has_row = self.warm
        if self.config.similar:
            has_row = has_row | self.has_similar.any(dim=1)
        if self.config.pref_source == "features" and not self.config.strict:
            has_row = has_row | self.has_vector.any(dim=1)
        mask: Bools = has_row.cpu().numpy()
        return mask


class ModalityAttention(nn.Module):
    """sum_m a^m x^m with a^m = softmax_m(q tanh(W x^m + b)) over the modalities that are present.

    Shapes:
        forward: n_modalities of [n, dim], present [n, n_modalities] -> [n, dim]; 0 where none is
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        """Draw the query network."""
        super().__init__()
        self.weight = xavier(dim, dim, generator)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.query = xavier(dim, 1, generator)

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


def build(graph: Graph, edges: Edges, config: Config, generator: torch.Generator) -> PreferenceGCN:
    """Return a fresh network that learns from these edges; see `registry.Model`."""
    watch = fitting.watch_graph(graph, edges, config)
    warm = watch.whole.n_viewers > 0
    return PreferenceGCN(watch, content(graph, warm.numpy(), config), config, generator)


fit = partial(fitting.fit, build=build)


def content(graph: Graph, warm: Bools, config: Config) -> Content:
    """Return the video graphs, normalised once, and the vectors at unit length.

    Args:
        graph: neighbours and vectors per modality
        warm: videos whose id row is learned [n_videos]
        config: which modalities, and how

    Returns:
        One graph [n_videos, n_videos] and one matrix of vectors [n_videos, dim] per modality.
    """
    wanted = config.modalities
    similar = [
        propagation.neighbour_matrix(
            pairs,
            n_nodes=graph.n_videos,
            keep=warm,
            by_similarity=config.edge_weight == "similarity",
        )
        for name, pairs in graph.modality_edges.items()
        if wanted is None or name in wanted
    ]
    units = [
        unit_rows(part, centre=name in config.centre)
        for name, part in graph.features.items()
        if wanted is None or name in wanted
    ]
    return Content(
        warm=torch.from_numpy(warm),
        similar=[SparseConv(propagation.sym(matrix)) for matrix in similar],
        has_similar=_columns([np.diff(matrix.indptr) > 0 for matrix in similar], graph.n_videos),
        vectors=[torch.from_numpy(vectors) for vectors, _ in units],
        has_vector=_columns([present for _, present in units], graph.n_videos),
    )


def _columns(masks: list[Any], n_rows: int) -> Tensor:
    """Masks side by side. [n_rows, n_masks]."""
    joined = np.stack(masks, axis=1) if masks else np.zeros((n_rows, 0), dtype=np.bool_)
    return torch.from_numpy(joined)
