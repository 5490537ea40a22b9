"""Connections to one Redis: which server is the primary, and questions with a deadline."""
