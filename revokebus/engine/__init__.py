"""The decision about a token, and the acts: issue, rotate, revoke, guard. No web framework."""
