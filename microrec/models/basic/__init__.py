"""Models without training: popularity, and content matched to a user's profile."""
