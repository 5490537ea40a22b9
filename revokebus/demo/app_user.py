"""Who may sign in at the demonstration."""

USER, PASSWORD = "alice", "wonderland"
