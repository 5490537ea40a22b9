"""What `docs/protocol.md` says, as code: revocations, bytes, names, heartbeats, proofs. No I/O."""
