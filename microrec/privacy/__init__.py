"""People: what they ask for, who is left out now, and what is erased.

Rows of a day never change, and a person may change their mind. So consent is the one input that is read as of now, for
past days and old releases too, and an erasure the one operation that rewrites what a release pins.

* `ledger`: every request that ever arrived, with a pseudonym in place of the id (`subjects`), and the periods in which
  a person's viewings may not be used. The files of the landing zone may go; the ledger stays.
* `preferences`: what users want of their lists; a wish holds until it is taken back (table `preferences`).
* Who is suppressed now stands in `suppressed_users` (its greatest day), whose viewings of which days may not be used in
  `withheld_periods`. Nights, backfills and `Release.read` go by them.
* `erasure`: people out of tables, pins, models and the log, in an order that whoever is killed can be followed by the
  next. `people` says which rows are theirs, `rewriting` writes files without them, `pins` moves releases, `artefacts`
  takes them out of models, `sweeping` deletes what was replaced, `receipts` and `manifests` are what remains.
* `subjects`: the pseudonym that stands for a person in receipts.
* `proof`: decodes everything that is kept and searches it, by other code than the erasure's; `quotes` is what both
  hold for somebody's id.
"""
