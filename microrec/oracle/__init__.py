"""The oracle: what a night's lists should be, computed again by brute force, one user at a time.

Inputs: the published `recommendations`, and all they were made of: the stored artefacts, the graph tables, the
recipe. Result: how many of the drawn users agree row by row, and where the others differ first.

    inputs   what the lists are made of, counted anew (`pipeline.oracle_inputs` reads the tables)
    sources  each fitted model's score of every video for one user, and its list
    lists    from the sources' lists to the published one: points, chances, ladder, variety, exploration
    evidence whether the evidence of a row is true
    compare  which users are drawn, and whether a list is the published one

It shares no code with `candidates`, only the `Config`s, the names of things and the stored trees: a mistake there
would else be made twice. It is plain and slow, and is meant to be read beside the docstrings of
`candidates`, which are the rules.

What is equal, and what is not:

* A score is a sum of float32 numbers, and its last bits depend on the order in which a library adds.
  Two videos that are closer than that may stand in either order, and the rank moves what the blend
  gives. Comparing the published rows with a tolerance would not do: one swap in a source moves
  two fused points by a share that is a thousand times as large as the difference of the scores.
* So the tie is settled where it arises. The stored `candidates` of a source are a witness of how it
  was told apart: if they are a list that exact arithmetic could have given within the tolerance
  (`sources.could_be`: every stored score right, nothing surely better below or left out, nothing
  forbidden), their order and scores are taken, else brute force's own. The witness decides nothing
  but ties. Whatever else is wrong with it, the list is made from the right one, and the published
  rows that came from the wrong one stand out.
* The tolerance is relative to the sum of the absolute addends, which is what bounds the error of a
  float32 sum; a score of one addend has none, and equal ones must stand in the order of video_idx.
* From there on all is float64 in a stated order (sources by name) or counts: the blend, the
  ladder and the variety are compared exactly, scores to the last bit of float32. Two rows swapped
  that have equal points differ. A rule of `candidates` that changes must change here too: that is
  the price, and the point.
* The exploration adds float32 similarities again. Propensities are compared within the tolerance,
  and where a user's random number falls on the border of two videos within it, both are right.
"""
