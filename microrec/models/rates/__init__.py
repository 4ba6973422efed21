"""Models of rates: what was counted of users, videos and where they meet says what will be liked."""
