"""Pictures of a night's results: figures, and the rows they are drawn from."""
