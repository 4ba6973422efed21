"""Export: the hand-off of a release to the store that serves it.

What enters: a release (`release.reader`). What leaves: its lists, and if asked for its vectors, in a store that answers
a request in a millisecond, and one pointer there that says which release is served.

    contents   what of a release is served: lists by id, vectors by model, and a digest of both
    target     what every store can do, and what it says of the release it serves
    handoff    the order of steps, the same for every store
    files      Parquet or JSON lines in a folder; the pointer is a symbolic link
    redis      lists of each user, segment and video; the pointer is a hash
    postgres   tables, with vectors where pgvector is installed; the pointer is the views over them
    dbt        the result tables as sources of dbt
    stores     opens the store that an address names

What was decided:

* A release replaces the one before; nothing is added to what is there. It is written beside it, invisible; then the
  pointer moves in one step, then the old one is deleted. Whatever kills an export before that step leaves the old
  release served, and the next export deletes what was left behind.
* A release that is served already, with the same content, only has its time to live set anew.
* Who has left the release (erased, opted out, no profiling) leaves the store, too: `handoff.remove_withdrawn` compares
  the users of the store with those the release has now. It needs no ids of theirs: after an erasure nobody knows them.
* Nothing is served after `valid_until`: it is the time to live in Redis, the views of Postgres are empty from then on,
  and `release.json` of a folder says it.
* One export at a time: each store has a lock that ends with the process which holds it.
* The client libraries are extras (`microrec[redis]`, `microrec[postgres]`) that only their own module imports.
"""
