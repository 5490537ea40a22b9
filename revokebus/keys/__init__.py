"""Keys that sign and verify: from settings, or published by an issuer as a JWK Set."""
