"""Reading from replicas of Redis: bookmarks prove what a replica has."""
