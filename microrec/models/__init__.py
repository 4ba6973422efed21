"""Models: the night's graphs in, fitted recommenders out.

**Enters.** One `data.Graph`: the positive watch edges of the fit's parts of the window, feature
vectors per modality, modality neighbours, user neighbours, and for models of sequences who was shown
what and what was known before (`sequences.py`); all dense indices of one day. A *trial*
fit sees the parts train and validation, a *final* fit sees the holdout as well.

**Leaves.** One fitted model of four kinds (`fitted.py`): `Embeddings`, whose score is an inner
product, `NeighbourLists` of users or of videos, `Trends`, several rows per user, or a `Ranker`, which
proposes nothing and scores pairs. Saved as safetensors and JSON, never as pickles,
bit for bit the same for the same graph, configuration and generator. Which videos a user has seen
is not asked here: lists are cut once, where candidates are selected.

**Refuses.** Node tables whose indices are not 0..n-1, edges outside them, vectors of one modality
of different lengths (`ContractViolation`), names that are not in the `registry` (`RecipeError`).

**Decided.**
- A model is a function: each file has a `Config` and `fit(graph, config, rng) -> Trained`; the
  only base classes are torch's own and the parts of a `Config` that models share.
- Graph networks (`lightgcn`, `mmgcn`, `preference_gcn`) differ in their equations alone: what is
  drawn (`sampling`), lost (`losses`), stepped (`training`), left between epochs (`checkpoint`),
  taken over from yesterday (`warm`) and shared by processes (`parallel`) is in one place each,
  and `fitting` puts it together.
- The edges a batch is asked to predict are left out of the graph that predicts them, and users
  over the activity cap (`activity`) do not teach. The first rule is worth more than any part of any
  network, the second is for the models of neighbours: tests/benchmarks/README.md.
- Models of sequences (`multi_trend`, `din`, `dnn`, `sasrec`) are fitted by `exposures`, which gives
  them batches of what was shown; their epochs are chosen by gAUC, or by recall where they propose.
- Importing a model costs numpy and scipy (0.3 s); only the graph networks pay for torch and PyG
  (3-20 s), so `registry` imports by name, and a `runtime` can be made without torch.
- Binary edges: the value of a positive edge is 1 in every similarity. Decayed weights serve
  popularity, and instants serve the recency of content profiles.
- A user or a video that a model knows nothing about is marked unknown, with zeros in its row:
  never a random vector, never a missing row.
- A missing modality is masked in every mean and every attention; a zero vector is a missing one.
- Epochs are chosen on the validation day with the training part alone; then the model is fitted
  again on both for that many epochs; the final fit takes the number from the trial's report. So it is with how
  fast a history fades (`neighbours/history.py`).
- Edges are sorted when the graph is built, so the order of rows in a table changes no bit.
"""
