"""A backend of the shape that FastAPI's full-stack template has, with tokens of its own."""
