"""Evaluation: how good the night's lists are, and whether they may be published.

Input: the watch edges of the window, the catalogue, and ranked lists (per source, and the final table after
filter-and-fill: the table is judged, not the model). Output: `metrics` rows and `gate_results` rows.

    truth      users who are evaluated, and the right videos of each
    ranking    all-item metrics by PyG, per user, per history bucket, for cold videos
    bootstrap  95 % intervals over users, shared by all columns so that differences are paired
    subjects   ranked lists with the rules they must obey, by index or by id
    champion   the lists of the previous release by the night's indices, and the share of new first places
    contest    learned blend against closed form, and the better against the previous release
    gate       thresholds and checks; hold stops the release, warn only reports
    arrivals   bounds of what arrived, and which days before a day it is compared with
    refusals   shares of refused lines by raw table and rule
    distributions  lengths, hours, labels and ids of a day; which unit or zone would explain them
    report     figures of a finished release

Refused: an evaluation without a single evaluated user.

Decisions:

* Time cuts only: the truth is what a user watched with positive feedback on day D, had not watched before, and could be
  shown. Users with no such video are not evaluated; a user with a truth and no candidates counts as 0.
* All eligible videos are ranked; nothing is sampled. The ideal DCG uses min(|truth|, k).
* Per-user figures come from the `_compute` of each PyG metric, its own per-example formula, because the public
  `compute` returns only a mean and an interval needs users. A test pins the mean of ours to PyG's public figure, so a
  PyG upgrade that moves it is seen.
* One set of 1000 resamples of users is applied to every source, metric and difference: intervals of a difference are
  paired at no cost.
* What arrived is judged before anything is built of it. A day is compared with the most similar of the days before that
  were accepted: on 11 days of KuaiRand, two of them a weekend, the tenths of watch times differ by at most 0.04 decades
  then, a tenth of the bound, and a wrong unit by 3. A day that an operator lets pass is a measure for the next ones.
* The final gate works on string ids read back from the table, joined with the day's edges by id: it would see an index
  mapped to the wrong id, which a gate on indices cannot.
"""
