"""The same routes in several ways: ``POST /login`` gives a token, ``GET /protected`` takes it."""
