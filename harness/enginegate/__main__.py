"""``python -m enginegate`` is the ``enginegate`` command."""

import sys

from enginegate.cli import main

if __name__ == "__main__":
    sys.exit(main())
