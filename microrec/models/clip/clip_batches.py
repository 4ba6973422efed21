"""Batches of the clip model: users and clips as of a day, and the neighbourhoods that were known then."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microrec.core.array_types import Int64s
from microrec.core.pairs import positions
from microrec.models.clip.clip_counts import Counts
from microrec.models.inputs.clip_arrays import ClipEdges, Clips, Ledger
from microrec.models.nn.layers import on

N_PLACES = 40
"""Places with a row of their own; later ones share the last."""


class Reading(Protocol):
    """How much of the graph is read: the part of the model's `Config` that batches depend on."""

    @property
    def fan_out(self) -> tuple[int, int]:
        """Latest clips of a user, and latest users of a clip, of each sign."""

    @property
    def half_life_days(self) -> float:
        """An edge this old counts half."""

    @property
    def graph(self) -> bool:
        """Whether neighbourhoods are read at all."""

    @property
    def neighbours(self) -> bool:
        """Whether the clips before and after are read too."""


@dataclass(frozen=True, eq=False)
class Viewings:
    """Viewings of a pair on a day, each a run of edges.

    Shapes:
        start, end: [n_viewings]
    """

    edges: ClipEdges
    start: Int64s
    end: Int64s

    def __len__(self) -> int:
        """Number of viewings."""
        return len(self.start)

    def taken(self, chosen: NDArray[Any]) -> "Viewings":
        """Return some of the viewings.

        Args:
            chosen: places, or a mask. [n_taken] or [n_viewings]
        """
        return Viewings(self.edges, self.start[chosen], self.end[chosen])

    @property
    def day(self) -> Int64s:
        """[n_viewings]."""
        return self.edges.day[self.start]


def viewings(edges: ClipEdges, clips: Clips) -> Viewings:
    """Return the runs of edges of one user, video and day.

    Args:
        edges: sorted by day, user and clip. [n_edges]
        clips: say which video a clip is of.

    Returns:
        One entry per viewing. [n_viewings]
    """
    video = clips.video[edges.clip]
    new = np.ones(len(edges), dtype=np.bool_)
    new[1:] = (np.diff(edges.day) != 0) | (np.diff(edges.user_idx) != 0) | (np.diff(video) != 0)
    start = np.flatnonzero(new)
    return Viewings(edges, start, np.append(start[1:], len(edges)))


@dataclass(frozen=True, eq=False)
class Links:
    """Weighted edges from rows to groups of them; the weights of a group add up to 1.

    Shapes:
        edges: [2, n]; weight: [n]
    """

    edges: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Read:
    """The clips whose rows a batch needs, each once.

    Shapes:
        videos: [n_videos]; every other: [n_rows]
    """

    videos: Tensor
    """video_idx, each once."""
    video: Tensor
    """Position in `videos`."""
    place: Tensor
    clip: Tensor
    before: Tensor
    """Position of the clip before in its video among these, or -1."""
    after: Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """Users and clips of a batch.

    Shapes:
        targets: [n_targets]; user, target, label, viewing: [n_pairs]; evidence: [n_pairs, N_EVIDENCE]
    """

    n_users: int
    """Users as of a day: those of the pairs, and the viewers of a clip in `targets`."""
    read: Read
    targets: Tensor
    """Positions of the pairs' clips as of a day, each once, in `read`."""
    user_links: tuple[Links, Links]
    """From clips to who watched them through (+), and to who left in them (-)."""
    clip_links: tuple[Links, Links]
    """From users to the clips in `targets`."""
    user: Tensor
    target: Tensor
    """Position in `targets`."""
    evidence: Tensor
    label: Tensor
    """1 where the clip was watched through, 0 where the viewer left."""
    viewing: Tensor
    share: float = 1.0
    """Of the step's viewings."""

    def to(self, device: str) -> "Pairs":
        """Return the same batch on a device."""
        moved: Pairs = on(device, self)
        return moved


class Reader:
    """Batches from one fit's edges."""

    def __init__(self, clips: Clips, config: Reading) -> None:
        """Sort the edges by user and by clip."""
        self.clips = clips
        self.config = config
        edges = clips.edges
        self.video = clips.video
        self.number = clips.number
        self.counts = Counts(clips)
        self.signs = [np.flatnonzero(edges.through), np.flatnonzero(~edges.through)]
        signed_edges = [edges.taken(of_sign) for of_sign in self.signs]
        self.by_user = [
            Ledger.of(of_sign.user_idx, of_sign.day, tie=of_sign.scattered)
            for of_sign in signed_edges
        ]
        self.by_clip = [
            Ledger.of(of_sign.clip, of_sign.day, tie=of_sign.scattered) for of_sign in signed_edges
        ]

    def pairs(
        self,
        user: Int64s,
        clip: Int64s,
        day: Int64s,
        *,
        label: NDArray[np.bool_] | None = None,
        viewing: Int64s | None = None,
        share: float = 1.0,
    ) -> Pairs:
        """Return users and clips as of a day each.

        Args:
            user: user_idx of each pair [n_pairs].
            clip: of each pair [n_pairs].
            day: what is before it is known [n_pairs].
            label: whether the clip was watched through [n_pairs].
            viewing: pairs of one viewing have the same number [n_pairs].
            share: of the step's viewings.

        Returns:
            A batch of [n_pairs].
        """
        edges = self.clips.edges
        zeros = np.zeros(len(user), dtype=np.int64)
        clip_days, target = np.unique(_joined(clip, day), return_inverse=True)
        viewers = self._latest(self.by_clip, clip_days, self.config.fan_out[1])
        near = [_joined(edges.user_idx[edge], _parted(clip_days)[1][of]) for of, edge in viewers]
        user_days, user_row = np.unique(
            np.concatenate([_joined(user, day), *near]), return_inverse=True
        )
        of_pairs, *of_viewers = np.split(user_row, np.cumsum([len(user), len(near[0])]))
        watched = self._latest(self.by_user, user_days, self.config.fan_out[0])
        read = self._read(_parted(clip_days)[0], watched)
        rows = [np.searchsorted(read, edges.clip[edge]) for _, edge in watched]
        evidence = [
            self.counts.of_clips(*_parted(clip_days))[target],
            self.counts.of_users(user, day),
        ]
        return Pairs(
            n_users=len(user_days),
            read=self._rows(read),
            targets=torch.from_numpy(np.searchsorted(read, _parted(clip_days)[0])),
            user_links=self._links(rows, watched, user_days),
            clip_links=self._links(of_viewers, viewers, clip_days),
            user=torch.from_numpy(of_pairs),
            target=torch.from_numpy(target),
            evidence=torch.from_numpy(np.concatenate(evidence, axis=1)),
            label=torch.from_numpy((zeros if label is None else label).astype(np.float32)),
            viewing=torch.from_numpy(zeros if viewing is None else viewing),
            share=share,
        )

    def viewings(self, chosen: Viewings, *, share: float = 1.0) -> Pairs:
        """Return the clips that some viewings reached, as of the start of their days.

        Args:
            chosen: [n_viewings].
            share: of the step's viewings.

        Returns:
            A batch with one pair per clip of a viewing. [n_pairs]
        """
        n = chosen.end - chosen.start
        viewing, step = positions(n)
        edge = step + chosen.start[viewing]
        edges = chosen.edges
        pairs = (edges.user_idx[edge], edges.clip[edge], edges.day[edge])
        return self.pairs(*pairs, label=edges.through[edge], viewing=viewing, share=share)

    def _latest(
        self, ledgers: Sequence[Ledger], keys: Int64s, n: int
    ) -> list[tuple[Int64s, Int64s]]:
        """Of both signs the latest edges of accounts before days: position of the key, and the edge."""
        if not self.config.graph:
            none = np.zeros(0, dtype=np.int64)
            return [(none, none), (none, none)]
        latest = [ledger.latest(*_parted(keys), n=n) for ledger in ledgers]
        return [(of, sign[entry]) for sign, (of, entry) in zip(self.signs, latest, strict=True)]

    def _read(self, clips: Int64s, watched: Sequence[tuple[Int64s, Int64s]]) -> Int64s:
        """Every clip that is needed, once, in order."""
        edges = self.clips.edges
        read = np.unique(np.concatenate([clips, *(edges.clip[edge] for _, edge in watched)]))
        if self.config.neighbours:
            beside = [self._beside(read, step) for step in (-1, 1)]
            read = np.unique(np.concatenate([read, *beside]))
        return read

    def _rows(self, read: Int64s) -> Read:
        videos, video = np.unique(self.video[read], return_inverse=True)
        place = np.minimum(self.number[read], N_PLACES - 1)
        before, after = (self._position_beside(read, step) for step in (-1, 1))
        return Read(*map(torch.from_numpy, (videos, video, place, read, before, after)))

    def _links(
        self, source: Sequence[Int64s], latest: Sequence[tuple[Int64s, Int64s]], keys: Int64s
    ) -> tuple[Links, Links]:
        """Links of both signs to the accounts of some keys."""
        _, day = _parted(keys)
        positive, negative = (
            Links(
                torch.from_numpy(np.stack([rows, of])), self._weight(edge, day[of], of, len(keys))
            )
            for rows, (of, edge) in zip(source, latest, strict=True)
        )
        return positive, negative

    def _weight(self, edge: Int64s, day: Int64s, of: Int64s, n: int) -> Tensor:
        edges = self.clips.edges
        weight = edges.weight[edge] * 0.5 ** ((day - edges.day[edge]) / self.config.half_life_days)
        whole = np.bincount(of, weights=weight, minlength=n)
        return torch.from_numpy((weight / whole[of]).astype(np.float32))

    def _beside(self, clip: Int64s, step: int) -> Int64s:
        """The clips before or after, of those that have one."""
        other = clip + step
        inside = (other >= 0) & (other < self.clips.n_clips)
        other = other[inside]
        clip = clip[inside]
        neighbours: Int64s = other[self.video[other] == self.video[clip]]
        return neighbours

    def _position_beside(self, read: Int64s, step: int) -> Int64s:
        """Position of the clip before or after among those that are read, -1 where there is none."""
        other = read + step
        position = np.minimum(np.searchsorted(read, other), max(len(read) - 1, 0))
        same = (read[position] == other) & (self.video[read[position]] == self.video[read])
        return np.where(same, position, -1)


def blocks(n: int, size: int) -> Iterator[Int64s]:
    """Yield 0..n-1 in blocks.

    Args:
        n: numbers in all.
        size: of a block, at most.

    Yields:
        [size] or fewer numbers.
    """
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def _joined(account: Int64s, day: Int64s) -> Int64s:
    """An account as of a day, as one number."""
    return account << Ledger.SHIFT | day


def _parted(key: Int64s) -> tuple[Int64s, Int64s]:
    return key >> Ledger.SHIFT, key & (1 << Ledger.SHIFT) - 1
