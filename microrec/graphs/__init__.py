"""Graphs: validated events become node indices, weighted edges and sequences (Spark, numpy blocks).

Enters: `events`, `videos` and `video_features` of D. Leaves: `daily_watches` (what a pair had on an
event day; later nights add these up and read no older event), `users`, `video_nodes` (string id <->
dense index, valid for D only), `watch_edges`, `clip_edges`, `modality_edges`, `user_edges`,
`sequences`. Models read these as tensors and add no edge of their own.

Refuses: an event day after D (its `split` is null, and the contract requires one). A vector that is
missing, zero or not finite gives no edge; vectors of different encoders or lengths are never
compared. Neither disturbs another row. A viewing of a video outside the catalogue does not reach
this stage: the events stage rejects it.

Decided here:

- Time. `split.py` alone says train (days before D-1), validation (D-1), holdout (D). Fit `trial`
  sees the first two, fit `final` all three; everything that is built per fit takes its rows from
  `split.by_fit`.
- Days. A night aggregates the events that arrived and adds the window's days up (`daily.py`,
  `watch.py`). A late row or a correction tells its pair's whole day again, in the partition of its
  arrival day; night D takes the last telling by D, so nights in any order, again or left out give
  the same rows. What a partition was made of (files of events, cut of the clips, `daily.FORMAT`) is
  remembered in its commit; a night builds those that would be made of something else.
- Decay is by whole days, so that aggregates know neither D nor the half-life.
- Undo beats do. A dislike takes weight and positives of the pair's earlier viewings; views,
  negatives and clip steps stay, they happened. The parts stay independent of each other (a dislike
  on D must not reach training): an edge says `undone`, and whoever puts parts together starts weight
  and positives from the last one that is.
- The same rows give the same table, to the bit: ties go by index, and sums of weights are
  fixed-point (`sums.py`), because Spark adds the rows of a group in whatever order they arrive.
- Similarity is exact and blocked (`blocks.py`): blocks of rows meet pair by pair in numpy, each
  pair keeps its top k. Memory is bounded by the block size, never by the number of users; nothing
  is collected or broadcast whole.
- Yesterday's lists (`reuse.py`). A similarity graph compares with all rows only those that are not
  what they were and those whose list lost an entry; the others meet the changed rows only. The rows
  are those of a full build, so it does not matter which nights ran or in which order. A list counts
  if the commit's word (`FORMAT` of the module, section of the recipe, files of the inputs) is what it
  would be now. Full builds remain: a centred modality, a large (searched) space, weights, a hub cap,
  another N (fix `n_videos` to keep it), more than half of the pairs to compare. The log has the plan.
- Cosine is computed on unit vectors rounded to a grid on which float64 products add without
  rounding, so equal vectors have equal similarities wherever they stand in a block.
- Pearson is the full-vector form, from sparse dot products and per-user sums. The
  only approximation is the hub cap, and it is exact for every video with fewer viewers than the
  cap.
- Indices come from one global sort of the ids: a sort that spills to disk but runs in one task. At
  10^8 ids that task is the bottleneck; ranges with counted offsets are the way out and not needed
  yet.
"""
