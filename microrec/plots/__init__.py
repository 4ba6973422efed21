"""Pictures of what a night says: figures, and the rows they are drawn from."""
