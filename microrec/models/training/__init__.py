"""The one training loop, and what it needs: checkpoints, warm starts, several processes."""
