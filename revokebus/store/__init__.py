"""One Redis: its primary, requests with a deadline, scripts, listing, instances, audit."""
