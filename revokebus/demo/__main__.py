"""``python -m revokebus.demo [--serve]``."""

import argparse
import sys

from revokebus.demo.command import demonstrate_all

parser = argparse.ArgumentParser(prog="revokebus demo", description=demonstrate_all.__doc__)
parser.add_argument("--serve", action="store_true", help="leave the servers up until Ctrl-C")
sys.exit(demonstrate_all(serve=parser.parse_args().serve))
