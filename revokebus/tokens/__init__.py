"""Whether a token is genuine, and how new ones are made. Knows nothing of revocation."""
