"""The FastAPI side: what comes out of a request, and what goes back."""
