"""A page for whoever looks after the fleet: how each instance is, and a form to revoke."""

from revokebus.web.admin.router import admin_page

__all__ = ["admin_page"]
