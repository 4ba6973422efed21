"""Similarity networks: kernels over blocks of rows, the modality network of videos, the Pearson network of users."""
