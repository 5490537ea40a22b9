"""A demonstration: three instances, one revocation, and when each of them refused it."""
