"""Evaluation: how good tonight's lists are, and whether they may be published.

What enters: the watch edges of the window, the catalogue, and ranked lists (per source, and the
final table after filter-and-fill: the table is judged, not the model). What leaves: `metrics` rows
and `gate_results` rows.

    truth      who is evaluated and what is right
    ranking    all-item metrics by PyG, per user, per history bucket, for cold videos
    bootstrap  95 % intervals over users, shared by all columns so that differences are paired
    lists      ranked lists with what they must obey, by index or by id
    champion   the lists of yesterday's release in tonight's numbers, and what of tonight's is new
    contest    which lists the night goes on with: learned or closed form, and against yesterday's
    gate       thresholds and checks; hold stops the release, warn tells
    report     figures of a finished release

What it refuses: an evaluation without a single evaluated user.

What was decided:

* Time cuts only: the truth is what a user watched with positive feedback on day D, had not watched
  before, and could be shown (models.md, 2.1). Users with no such video are not evaluated; a user
  with a truth and no candidates counts as 0.
* All eligible videos are ranked; nothing is sampled. The ideal DCG uses min(|truth|, k).
* Per-user figures come from the `_compute` of each PyG metric, its own per-example formula, because
  the public `compute` returns only a mean and an interval needs users. A test pins the mean of ours
  to PyG's public figure, so a PyG upgrade that moves it is seen.
* One set of 1000 resamples of users is applied to every source, metric and difference: intervals of
  a difference are paired for nothing.
* The final gate works on string ids read back from the table, joined with the day's edges by id: it
  would see an index mapped to the wrong id, which a gate on indices cannot.
"""
