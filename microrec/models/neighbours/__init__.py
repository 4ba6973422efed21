"""Neighbour models: user- and video-based filtering, random walks, item weights in closed form."""
