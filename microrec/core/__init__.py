"""The ground floor: what every stage may know, and nothing that touches storage.

Index types, columns of Arrow tables, pairs and segments of arrays, the two fits of a night and the splits they see,
what a dislike undoes, how a video is cut into clips, what a fitted model is and how it is saved, names that come from
outside, and digests. Stages do not import one another; what two of them need alike stands here, once.

Decided: no storage, no Spark, no torch, and no engine but numpy, scipy and pyarrow. A rule that only one stage needs
belongs into that stage.
"""
