"""What a user has watched before an exposure, and what similar users watched next: rows for models of sequences."""
