"""Graphs: validated events become node indices, weighted edges and sequences (Spark, numpy blocks).

Enters: `events` of the window that ends at day D (already free of suppressed users), `videos` and
`video_features` of D. Leaves: `users`, `video_nodes` (string id <-> dense index, valid for D only),
`watch_edges`, `clip_edges`, `modality_edges`, `user_edges`, `sequences`. Models read these as
tensors and add no edge of their own.

Refuses: an event day after D (its `split` is null, and the contract requires one). A vector that is
missing, zero or not finite gives no edge; vectors of different encoders or lengths are never
compared. Neither disturbs another row. A viewing of a video outside the catalogue does not reach
this stage: the events stage rejects it.

Decided here:

- Time. `split.py` alone says train (days before D-1), validation (D-1), holdout (D). Fit `trial`
  sees the first two, fit `final` all three; everything that is built per fit takes its rows from
  `split.by_fit`.
- The same rows give the same table, to the bit: ties go by index, and sums of weights are
  fixed-point (`sums.py`), because Spark adds the rows of a group in whatever order they arrive.
- Similarity is exact and blocked (`blocks.py`): blocks of rows meet pair by pair in numpy, each
  pair keeps its top k. Memory is bounded by the block size, never by the number of users; nothing
  is collected or broadcast whole.
- Cosine is computed on unit vectors rounded to a grid on which float64 products add without
  rounding, so equal vectors have equal similarities wherever they stand in a block.
- Pearson is the full-vector form, from sparse dot products and per-user sums. The
  only approximation is the hub cap, and it is exact for every video with fewer viewers than the
  cap.
- Indices come from one global sort of the ids: a sort that spills to disk but runs in one task. At
  10^8 ids that task is the bottleneck; ranges with counted offsets are the way out and not needed
  yet.
"""
