"""One key for all of the peers."""

import os

SECRET = os.environ["BENCH_SECRET"]
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "memory://")
LIFETIME = 3600
