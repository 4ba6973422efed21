"""Graphs: validated events become node indices, weighted edges and sequences (Spark, numpy blocks).

Enters: `events`, `videos` and `video_features` of D. Leaves: `daily_watches` (what a pair had on an
event day; later nights add these up and read no older event), `users`, `video_nodes` (string id <->
dense index, valid for D only), `watch_edges`, `clip_edges`, `modality_edges`, `user_edges`,
`sequences`, `exposures`. Models read these as tensors and add no edge of their own.

Refuses: an event day after D (its `split` is null, and the contract requires one). A vector that is
missing, zero or not finite gives no edge; vectors of different encoders or lengths are never
compared. Neither disturbs another row. A viewing of a video outside the catalogue does not reach
this stage: the events stage rejects it.

Decided here:

- Time. `watch/split.py` alone assigns train (days before D-1), validation (D-1), holdout (D). Fit
  `trial` sees the first two, fit `final` all three; everything that is built per fit takes its rows by
  `core.fits.SPLITS_OF`.
- Days. A night aggregates the events that arrived and adds the window's days up (`watch/daily.py`,
  `watch/watch_edges.py`). A late row or a correction has its pair's whole day aggregated again, in the
  partition of its arrival day; night D takes the latest one by D, so nights in any order, repeated or
  left out, give the same rows. What a partition was made of (files of events, clip cutting, `daily.FORMAT`) is
  stamped on its commit; a night builds those whose stamp would differ.
- Decay is by whole days, so that aggregates know neither D nor the half-life.
- A rank is of the night. `daily_watches` keeps watch times; how strong a viewing is among those of its day follows from
  them every night (`watch/strength.py`), so that whoever withdraws is in nobody's weight from the next night on.
- Clips are cut by the length a viewing had, into 5 s each (`watch/clip_edges.py`). `clip_edges` are per event day
  and do not fade: readers apply decay, by the day of what they explain.
- A dislike undoes. It takes weight and positives of the pair's earlier viewings; views,
  negatives and clips stay. The parts stay independent of each other (a dislike
  on D must not reach training): an edge is marked `undone`, and where parts are joined, weight and
  positives start from the last part so marked.
- The same rows give the same table, to the bit: ties go by index, and sums of weights are
  fixed-point (`watch/sums.py`), because Spark adds the rows of a group in whatever order they arrive.
- Similarity by blocks (`similarity/blocks.py`): a task holds the rows of a few blocks with their best k, all
  blocks of the space stream past them, and compiled kernels (numba) compare. No pair of rows is
  shuffled, nothing is collected or broadcast whole: shuffle is the rows times the tasks, memory of
  a worker two blocks and the lists, whatever the number of rows.
- Kernels give the same bits whatever the blocks and their order: Pearson (`pearson.py`)
  counts whole numbers, cosine (`cosine.py`) adds on a grid on which float64 does not round, and a
  float32 product only rules out. So equal vectors have equal similarities, and a row may be
  reused from yesterday.
- Pearson is the full-vector form and exact. Caps are optional: popular videos are counted by
  bits, 16 at a time, so hubs cost little. With a hub cap the night measures what it keeps.
- Cosine is exact up to `exact_up_to` vectors; above, cells around k-means centres are searched
  (`cells.py`), exactly within them, and every night compares a sample with the exact lists.
- Yesterday's lists stand where neither the row nor what could enter its list has changed
  (`reuse.py` has the proof). User lists depend on N, the number of videos: fix it in the recipe
  (`graphs.user_edges.n_videos`) and nights reuse what they can; each logs its plan.
- Cuts. A sequence model learns from what was shown on the last target days, each from what was
  known when that day began: a row of `sequences` is a user as of a cut, and neither its viewings nor
  the network behind its future come from after it (`sequences/cuts.py`). Bots are nobody's neighbours here, and
  of a video the latest viewers only are looked up, so no join costs the square of a hub.
- Every graph job writes `metrics`: edges, lists, the largest in-degree, recall where it is not 1.
- Indices come from one global sort of the ids: a sort that spills to disk but runs in one task. At
  10^8 ids that task is the bottleneck; ranges with counted offsets are the way out and not needed
  yet.
"""
