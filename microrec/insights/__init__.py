"""What a night publishes of users and videos besides lists: trends of a user, interest in clips, exit points.

A stage like any other: frames and arrays in, frames out; `jobs/describe_trends.py` and `jobs/describe_clips.py` read
and write the tables `user_trends`, `clip_interest` and `exit_points`.
"""
