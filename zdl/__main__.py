"""``python -m zdl`` is the command ``zdl``."""

import sys

from zdl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
