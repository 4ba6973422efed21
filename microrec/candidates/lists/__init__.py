"""The final list of a user: filled up to K by the ladder, varied, explored, with what speaks for each row."""
