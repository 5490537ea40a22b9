"""``python -m revokebus.cli``."""

from revokebus.cli import main

main()
