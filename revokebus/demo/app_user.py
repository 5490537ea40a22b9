"""Who may sign in at the demonstration."""

KEY_VARIABLE = "DEMONSTRATION_KEY"
"""Holds what opens the admin page; made anew for each demonstration."""

USER, PASSWORD = "alice", "wonderland"
