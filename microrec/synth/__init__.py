"""Synth: planted worlds, landing zones whose right answers are known.

What enters: a `Config` and a `numpy.random.Generator`. What leaves: a `World`, the files of a
landing zone as typed rows and raw lines, and its `Truth`. Nothing here touches storage:
`microrec.landing.write.write_world` writes a world.

What is planted, and the file that plants it:

- `population`: interest clusters (a video has one, a user likes one to three), power-law video
  popularity and user activity, durations, modality vectors that carry the cluster plus noise;
- `viewings`: who watches what when, how long (interest helps, length hurts, and the two are
  independent), at which clip a viewer leaves, sessions, likes and other signals;
- `catalogue`: the same population as deliveries: fresh videos every day, videos that change, one
  that is taken down, missing, zero and broken vectors;
- `privacy`: who opts out, comes back or asks to be erased, and who is therefore suppressed when;
- `dirt`: what real logs hold besides: duplicates, late rows, rows no validator may accept;
- `world`: puts the days together and counts.

Decided:

- Every delivered row or line carries exactly one label (`dirt.FATES`), counted by day of arrival,
  so accepted + late beyond the window + rejected + duplicates = delivered, to the row.
- Bad rows are added to the clean viewings and take nothing from them. What is accepted is exactly
  the clean viewings, some of which arrive late, without their length, or with their time in epoch
  milliseconds.
- The cluster decides what is watched and whether it is finished; the length of a video decides
  the latter too. A model that mistakes short for liked, or popular for liked, is measurably wrong.
- The same config and seed give the same bytes. Worlds of different configs are drawn differently
  throughout; they are not comparable row by row.
"""
