"""Graph networks over users and videos, and how they are fitted."""
