"""Final lists of any users of a night, made of its candidates by its recipe."""

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from microrec.candidates.lists import diversity, evidence, exploration, fill, ladder, unprofiled
from microrec.candidates.ranking import closed_form
from microrec.core import fitted
from microrec.core.array_types import Floats, Indices, Int64s
from microrec.evaluation.report import BEST_SOURCE, CLOSED_FORM, LEARNED
from microrec.models import registry
from microrec.pipeline import fusing, likeness, new_videos, served_models, wishes
from microrec.pipeline.fit_tables import FitTables
from microrec.pipeline.night import Night
from microrec.pipeline.proposals import Proposals

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ListMaker:
    """Makes the final lists of a night's fit, for all users or part by part.

    What the lists of all users share - rungs, similarity of videos, order of new videos, models - is loaded by the
    first part that needs it and kept. Pickled, a maker leaves that behind: each process loads its own.
    """

    night: Night
    tables: FitTables
    proposals: Proposals
    explored_share: float | None = None
    """Share of the users who have new videos in their lists; what the night has found of it if left out."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: the fields without what was loaded."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def recommend(self, *, users: Indices, trusted: bool, valid_until: dt.datetime) -> pa.Table:
        """Make the lists of some users, with evidence and the producers' ids.

        Args:
            users: user_idx [n_users] of consecutive users, ascending; of `everyone`, the numbers beyond the users' are
                of people who want no profiling.
            trusted: whether the learned order counts, if there is one.
            valid_until: instant at which a row expires, UTC.

        Returns:
            Rows of `recommendations`.

        Raises:
            MissingDay: a model of the lists has no artefact, or there are no modality_edges.
        """
        n_users = self.tables.users.num_rows
        personal = self._personal(users[users < n_users], trusted=trusted)
        nodes = {"user": self._users, "video": self._videos, "evidence_video": self._videos}
        personal = fill.with_ids(personal, nodes=nodes, valid_until=valid_until)
        for_all = unprofiled.select(
            users[users >= n_users] - n_users,
            everyone=self._unprofiled,
            rungs=self.rungs,
            k=self.night.config.k,
        )
        nodes = {"video": self._videos}
        for_all = fill.with_ids(for_all, nodes=nodes, valid_until=valid_until)
        return pa.concat_tables([personal, for_all.select(personal.column_names)])

    def everyone(self, users: Indices) -> Int64s:
        """Return whom `recommend` makes a list for: users of the night, and who wants no profiling.

        Args:
            users: user_idx [n_users] of who has a list of their own, ascending.

        Returns:
            user_idx, and a number beyond them for each of the others, ascending. [n_lists]
        """
        first = self.tables.users.num_rows
        others = np.arange(first, first + len(self._unprofiled.user_id))
        return np.concatenate([np.asarray(users, np.int64), others])

    def _personal(self, users: Indices, *, trusted: bool) -> pa.Table:
        """Lists of users of the night, with evidence, by index."""
        learned = trusted and self._has_learned_order
        method = "learned" if learned else "closed_form"
        logger.info(
            "blend day=%s fit=%s method=%s users=%d",
            self.night.day, self.night.fit, method, len(users),
        )  # fmt: skip
        rows = self.select(
            self.proposals.lists(users),
            users=users,
            learned=self.proposals.learned_order(users) if learned else None,
        )
        return evidence.add(
            rows,
            self._models.items(),
            known=self.tables.knowledge,
            alike=self._similarity,
            least_viewers=self.night.config.least_people,
        )

    def select(
        self,
        lists: Mapping[str, pa.Table],
        *,
        users: Indices,
        learned: pa.Table | None,
        weights: closed_form.Weights | None = None,
    ) -> pa.Table:
        """Make the lists of some users.

        Args:
            lists: rows of `candidates` by source.
            users: user_idx [n_users] of everyone who gets a list.
            learned: rows of `candidates` in the learned order; None: the order of the closed form.
            weights: of the closed form; those of the fit if left out.

        Returns:
            One row per (user, rank), see `fill.select`.

        Raises:
            MissingDay: variety is asked for and there are no modality_edges.
        """
        return fill.select(
            lists,
            users=users,
            known=self.tables.knowledge,
            ladder=self._ladder,
            k=self.night.config.k,
            shaping=replace(self.shaping, learned=learned, weights=weights or self.shaping.weights),
        )

    def contestants(
        self, lists: Mapping[str, pa.Table], *, users: Indices, best: str
    ) -> dict[str, pa.Table]:
        """Make the lists that may be released, of some users.

        Args:
            lists: rows of `candidates` by source.
            users: user_idx [n_users] of everyone who gets a list.
            best: the most accurate source.

        Returns:
            One row per (user, rank) each: of the closed form, of the best source alone, and of the learned blend if
            there is one, by the names of `evaluation.report`.
        """
        prior = self.night.recipe.section("candidates.blend", closed_form.Config)
        contestants = {
            CLOSED_FORM: self.select(lists, users=users, learned=None),
            BEST_SOURCE: self.select(
                lists, users=users, learned=None, weights=closed_form.only(best, prior)
            ),
        }
        if self._has_learned_order:
            learned = self.proposals.learned_order()
            contestants[LEARNED] = self.select(lists, users=users, learned=learned)
        return contestants

    @cached_property
    def rungs(self) -> dict[str, Int64s]:
        """Eligible videos of each rung of the ladder, in order."""
        return ladder.rungs(
            self.tables.edges,
            self.tables.videos,
            known=self.tables.knowledge,
            fit=self.night.fit,
            until=self.night.horizon,
            config=self.night.recipe.section("candidates.ladder", ladder.Config),
        )

    @cached_property
    def _unprofiled(self) -> unprofiled.People:
        return wishes.without_profiling(self.night, self.tables.videos)

    @cached_property
    def _ladder(self) -> ladder.Ladder:
        return ladder.climb(self.rungs)

    @cached_property
    def shaping(self) -> fill.Shaping:
        """The fit's weights, the recipe's variety and exploration."""
        section = self.night.recipe.section
        reasons = {name: card.reason for name, card in registry.cards().items() if card.reason}
        plain = fill.Shaping(fusing.weights(self.night), reasons=reasons)
        varied = section("candidates.diversity", diversity.Config)
        explored = section("candidates.exploration", exploration.Config)
        return replace(
            plain,
            variety=self._variety(varied) if varied.active else None,
            discovery=self._discovery(explored) if explored.places else None,
        )

    def _variety(self, config: diversity.Config) -> fill.Variety:
        like = likeness.read(self.night, self.tables.videos, collapse=config.collapse)
        return fill.Variety(config, like)

    def _discovery(self, config: exploration.Config) -> fill.Discovery:
        """New videos in a random order, a random number for each user, and vectors that say how near they are."""
        known = self.tables.knowledge
        new = exploration.newcomers(known.likers, known.viewers, known.eligible, config=config)
        rng = self.night.generator("exploration")
        order = rng.permutation(np.flatnonzero(new))
        uniforms = rng.random(self.tables.users.num_rows)
        # No share of the users reaches up to 1.
        uniforms[wishes.unexplored(self.night, self.tables.users)] = 1.0
        user, video = self._vectors(config.source)
        share = self.explored_share
        share = new_videos.users_share(self.night) if share is None else share
        return fill.Discovery(config, order, uniforms, user, video[order], share)

    def _vectors(self, source: str) -> tuple[Floats, Floats]:
        """Rows of users and videos of a source [n_users, dim], [n_videos, dim]; dim = 0 where it has none."""
        if source in self.proposals.sources:
            model = served_models.load(self.night, source, self.tables)
            if isinstance(model, fitted.Embeddings):
                return model.user, model.video
        n_users, n_videos = self.tables.users.num_rows, self.tables.videos.num_rows
        return np.empty((n_users, 0), np.float32), np.empty((n_videos, 0), np.float32)

    @cached_property
    def _has_learned_order(self) -> bool:
        return self.proposals.has_learned_order()

    @cached_property
    def _similarity(self) -> dict[str, sparse.csr_matrix]:
        """Similarity of videos by modality. [n_videos, n_videos] each."""
        edges = self.night.read("modality_edges")
        return evidence.by_modality(edges, n_videos=self.tables.videos.num_rows)

    @cached_property
    def _models(self) -> dict[str, fitted.Fitted]:
        """Models of the sources, in the order of the recipe; of users only what evidence needs."""
        models = [name for name in self.night.config.models if name in self.proposals.sources]
        return {
            name: _for_evidence(served_models.load(self.night, name, self.tables))
            for name in models
        }

    @cached_property
    def _users(self) -> pa.Table:
        """user_idx and user_id, sorted."""
        return self.tables.users.select(["user_idx", "user_id"]).sort_by("user_idx")

    @cached_property
    def _videos(self) -> pa.Table:
        """video_idx and video_id, sorted."""
        return self.tables.videos.select(["video_idx", "video_id"]).sort_by("video_idx")


def _for_evidence(model: fitted.Fitted) -> fitted.Fitted:
    """A model without vectors of users where evidence reads those of videos alone: they are most of it."""
    if isinstance(model, fitted.Embeddings):
        return replace(model, user=np.empty((0, model.user.shape[1]), model.user.dtype))
    return model
