"""The revocations that this process holds, in memory."""
