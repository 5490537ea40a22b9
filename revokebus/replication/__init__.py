"""Keeps the denylist like the store: push, tick, repair, confirmation; and `memory://`."""
