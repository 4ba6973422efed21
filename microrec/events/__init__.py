"""Events: from delivered lines to viewings, catalogue, vectors and consent a night can trust.

What enters: raw frames (every value text, with the line, its file and its landing day) of the
arrival days to validate, of the `lateness_days` before them, and of the catalogue's landing days up
to the night. What leaves: `events`, `rejected_rows`, `videos`, `video_features`, `clip_features`,
and the counts of all of it.

What it refuses: lines, one by one, each for the first rule of `rules.py` that fits, and never
silently: lines in = accepted + rejected + duplicates + withheld, counted on both sides and compared by the job.
A required value that cannot be read refuses its line (`bad_timestamp`, `bad_watch`, ...); an optional one becomes
null, is counted by its rule (`bad_flag`, `bad_duration`, `bad_tags`, ...) and takes no line along.

Decided:
- An arrival day is a pure function of the raw lines of [A - lateness_days, A] and of the catalogue
  as of A. It reads neither the clock nor what an earlier night wrote, so days may be validated in
  any order, many in one pass, and again, and give the same rows.
- A viewing is kept on the first day it arrives. Its identity is the producers' event id, or a digest
  of what was viewed, by whom, when, how long and with which reactions. The length of the video is
  not part of that: it is the catalogue's knowledge, and a line may or may not carry it.
- Same identity, same content: `duplicate`. Same identity, other content: on a later arrival day a
  correction, if it is about the same user, video and event day (an un-like, a watch time that was
  wrong); else `event_id_conflict`. A correction is an event beside the one it corrects: readers of
  night D see, of each event id, the row that arrived last by D. Content that came before is a
  duplicate also after a correction, so a file that is delivered again undoes nothing.
- A video is known on arrival day A if the catalogue delivered it on or before A. The length is the
  line's, else the catalogue's as of A.
- No column of `events` depends on what others watched: a rank among viewings would keep a share of those who withdraw
  later. Who needs ranks makes them of the people of the night (`graphs.watch.strength`).
- What was watched after an opt-out, or by somebody who is to be erased, is counted and not stored (`consent.withhold`).
  What was watched before stays in `events`; `in_force` leaves it out while its user is out, and brings it back with
  the user. Days that the time between opt-out and opt-in touches stay out: aggregates know days alone.
- Consent errs on the side of the user: an opt-out or erasure with an unreadable time counts from its
  delivery, an opt-in with one does not count; a request of a kind that cannot be read counts as an opt-out. Likewise a
  video is not eligible where `eligible` cannot be read, and a dislike that cannot be read is one. Such withdrawals in
  doubt are counted and told (gate `in_doubt`), and end with the next row that can be read.
- A watch time that is there and cannot be read is no optional value: the label would be a guess.
- What a day looks like (`profile.py`) is counted in bins of the same cached rows, not by approximate quantiles: the
  same lines give the same figures on any number of workers.
- A broken vector never hides an older whole one.
- Ids are any text up to 512 characters, and only ever compared. What becomes part of a path (a
  modality) is a plain word. Numbers and instants that an engine or a consumer could not count with
  are unreadable: no line makes a later stage overflow.
"""
