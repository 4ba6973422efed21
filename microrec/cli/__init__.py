"""The `microrec` command."""
