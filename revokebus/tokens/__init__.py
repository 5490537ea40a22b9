"""Whether a token is genuine, and how new ones are made. Does not know what is revoked."""
