"""Candidates: from fitted models to the ranked list of every user.

What enters: fitted embeddings or neighbour lists, the watch edges a fit may see, the catalogue, the
users and the suppressed users of one day. What leaves: `candidates` (per source, more than is
needed), then one final list per user, the fallback lists for users nobody knows, the trends, and what
is said of clips. Numpy, scipy and Arrow only: a process that selects must not pay the 3-10 s import of torch.

    retrieval  exact top-k of a source, by blocks of users
    topk       the same for very many users: tiles of scores pass by, compiled code keeps the best
    approximate
               the same among very many videos: codes of all, exact scores of some
    reranking  the union of all candidates in the order of a ranking model's scores
    blend      rank fusion of all sources, weighted by how much data the user has: the closed form
    hybrid     the learned blend: trees that read what every source says, taught by earlier nights
    ladder     global lists that fill what personal candidates leave empty
    diversity  a list with few videos of one author, no near-duplicates, unlike neighbours
    exploration
               new videos in some places, drawn with a known chance
    final      one filter-and-fill: exactly min(K, allowed videos) rows for every user
    rewatch    what a user liked and may want to see again: a lane beside the list
    evidence   what speaks most for each row, of what is known
    filters    the only place that masks seen and ineligible videos and drops suppressed users
    trends     what a user's trends are about, where they head, how long they hold (`user_trends`)
    clips      where videos hold their viewers and where they lose them (`clip_interest`, `exit_points`)

What it refuses: non-finite vectors (a NaN would silently empty lists), and k below 1.

What was decided:

* Memory is bounded by blocks (`block_cells` scores at a time), never by the number of users. A
  block is dense [users, videos]: fusion, masking, filling and ranking of a block are one array
  each, so the law "never a seen video" is one assignment of -inf that the same top-k obeys in
  retrieval and in the final list.
* Ties are broken by video_idx everywhere; sums run over sources in name order. Neither the order of
  rows nor the number of threads changes a list.
* A score above 0 is personal (the fused points); a score below 0 is minus the position on the
  ladder. Scores therefore fall with rank across the border between the two, and a reader can tell
  them apart.
* In the trial fit a video published after the cut is not proposed: a release made at the cut could
  not have known it (pain 12). It stays in the truth, so it counts against every source alike.
* A ranking model is one more source: what it says of the union is fused by rank like the rest, so that
  its weight is measured as any other's, and a night without it is a night with one source less.
* The learned blend learns from nights, never from other users of the night it is judged on: what a day
  likes is largely which videos it is about, and its users share that. The README has the figures.
* Variety and exploration are off by default: each has a price, told in the README.
* Rank fusion, not score fusion, in the closed form: scores of different sources have no common unit, ranks do (Cormack
  et al. 2009, reciprocal rank fusion).
"""
