"""Release: what consumers read.

What enters: the committed result tables of a day that passed its gates. What leaves: one
`releases` row per day that pins, for each result table, the Delta version, the number of rows and
the digest of the day's content; and a reader that follows it.

    record    makes the row (the publish job calls it, last of all)
    reader    finds a release and reads its tables, for Arrow, pandas and Polars
    health    faults of the releases, for a watchdog that does not depend on the run that makes them
    retention deletes what no kept release needs, and rows older than the recipe keeps them
    rollback  withdraws the releases after one, and keeps what was withdrawn from coming back

For Python consumers:

    from microrec.release import reader

    release = reader.latest("var/warehouse")
    if release.expired(at=now):
        ...
    mine = release.read("recommendations", user_id="u42")
    frame = release.to_pandas("metrics")

What was decided:

* The row is the pointer. It is written after everything else, so a night that dies or is held
  leaves readers on the release before.
* `latest` is the greatest day that has a row, never the newest commit: a backfilled old day gets a
  release of its own and changes no consumer's.
* A rollback changes rows, not rules: later releases are marked as withdrawn in one commit, and
  `latest` passes them over. A day that is run again to the same rows stays withdrawn.
* A reader asks for the pinned version, so a re-run in progress changes nothing under its feet, and
  counts the rows it got against the row; `verify` compares contents too.
* Rows of a release never change, and a person may withdraw: `read` leaves out whoever is suppressed on the last day
  that has read requests, so that neither a rollback nor a backfill serves somebody who has left. Whoever reads Delta
  without this reader joins `suppressed_users` of its greatest day.
* The caller gives the time: `expired(at)` reads no clock.
"""
