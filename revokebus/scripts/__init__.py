"""Lua: what must happen in one step inside Redis."""
