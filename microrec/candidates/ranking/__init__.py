"""One order of what all sources propose: rank fusion in closed form, learned trees, or the scores of a ranker."""
