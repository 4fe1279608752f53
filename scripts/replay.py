#!/usr/bin/env python3
"""`shopsentry replay` for cron: the same options; exits 0 fine, 1 trouble, 2 wrong use.

scripts/replay.py --dead-letters --reason poison
"""

import sys

from stream_app.cli import main

if __name__ == "__main__":
    main(["replay", *sys.argv[1:]])
