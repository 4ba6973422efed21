"""The best videos of a fitted model for each user: exact, in tiles, or by quantised codes above a million videos."""
