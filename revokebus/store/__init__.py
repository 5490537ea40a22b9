"""What is asked of Redis: scripts, writes that go together, sessions, listing, audit."""
