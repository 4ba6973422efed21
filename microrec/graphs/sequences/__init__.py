"""What a user had watched before an exposure, and what similar users watched next: rows for sequence models."""
