"""The clip-level model (FRAME) and the arrays it is trained on."""
