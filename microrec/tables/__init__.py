"""Tables: the only code that knows paths, formats, Delta, contracts and checks.

What enters: frames (Spark) or tables (Arrow) of a stage. What leaves: the same rows, read back by day at a pinned
version, with exactly the declared types.

Write = align, stage, audit, commit.
  align    the columns and types are exactly the contract's; an extra, missing or retyped column is refused
  stage    Parquet files under `<table>/attempt-<run>-<random>/`; invisible to every Delta reader
  audit    SQL over the staged files (DuckDB) counts, for every expectation of the contract, the rows that break it,
           and the duplicate keys, in one pass each: no JVM, no import of Great Expectations
  commit   one Delta transaction adds the files and removes the earlier files of the same scope; it carries run,
           attempt and code version. A conflict reloads the log and tries again; a late attempt is refused.

Read = by day (and other partition values), at the version the reader opened. A partition nobody committed is an
error, an empty day is a committed file without rows.

Where Great Expectations is paid for: its import costs 8-20 s and 300 MB a process, more than most audits, so jobs
do not import it to write. It is the independent second opinion on what consumers are served: `publish_release` builds
the suites of the two list tables from the same contracts and runs them, once a night, in one process; and the tests
prove for every rule of every contract that its verdict and ours agree. Declared = built = evaluated is asserted in
both.
"""
