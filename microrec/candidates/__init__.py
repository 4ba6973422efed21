"""Candidates: from fitted models to the ranked list of every user.

Input: fitted models, the watch edges a fit may see, the catalogue, the users and the suppressed users of one day.
Output: `candidates` (per source, more than is needed), one final list per user, the fallback lists for users without
one, and a lane of videos to watch again. Numpy, scipy and Arrow only: a process that selects must not pay the 3-10 s
import of torch.

    retrieval/exact            exact top-k of a source, by blocks of users
    retrieval/tiled            the same for very many users: tiles of scores pass by, compiled code keeps the best
    retrieval/quantised        the same among very many videos: codes of all, exact scores of some
    ranking/candidate_union    the union of all candidates in the order of a ranking model's scores
    ranking/closed_form        rank fusion of all sources, weighted by how much data the user has
    ranking/fusion             the weights of that fusion, fitted to what the held-out day liked
    ranking/learned_blend      trees over the scores and ranks of all sources, learned from earlier nights
    lists/ladder               global lists that fill what personal candidates leave empty
    lists/diversity            a list with few videos of one author, no near-duplicates, unlike neighbours
    lists/exploration          new videos in some places, drawn with a known chance
    lists/fill                 filter and fill: exactly min(K, allowed videos) rows for every user
    lists/unprofiled           the list of who wants no profiling: that of everybody, without what they have blocked
    lists/segments             lists of one surface or one tag, for each user and for everybody
    lists/rewatch              videos a user liked and may want to see again: a lane beside the list
    lists/evidence             the strongest evidence for each row

Seen, own and ineligible videos are masked by `core.knowledge` alone.

Refused: non-finite vectors (a NaN would silently empty lists), and k below 1.

Decisions:

* Memory is bounded by blocks (`block_cells` scores at a time), never by the number of users. A block is dense
  [users, videos]: fusion, masking, filling and ranking of a block are one array each, so the law "never a seen video"
  is one assignment of -inf that the same top-k obeys in retrieval and in the final list.
* Ties are broken by video_idx everywhere; sums run over sources in name order. Neither the order of rows nor the number
  of threads changes a list.
* A score above 0 is personal (the fused points); a score below 0 is minus the position on the ladder. Scores therefore
  fall with rank across the border between the two, and a reader can tell them apart.
* In the trial fit a video published after the cut is not proposed: a release made at the cut could not have known it.
  It stays in the truth, so it counts against every source alike.
* A ranking model is one more source: its order of the union is fused by rank like the rest, so that its weight is
  measured as any other's, and a night without it is a night with one source less.
* The recipe's weights are priors: a service's own held-out feedback decides which sources count. The weights are
  cross-fitted over users, so that a trial measures lists that its users' own feedback had no part in; a source that
  does not help has none. The blend still gives way to its best source where it is worse (`evaluation.contest`).
* The learned blend learns from earlier nights, never from other users of the night it is judged on: what a day likes is
  largely which videos it is about, and its users share that.
* Variety and exploration are off by default: each has a price, which the benchmarks state.
* Rank fusion, not score fusion, in the closed form: scores of different sources have no common unit, ranks do (Cormack
  et al. 2009, reciprocal rank fusion).
"""
