"""Tables of a night as arrays: what a model's `fit` is given."""
