"""The command `python -m d2lext.train`."""

import sys

from d2lext.train import main

if __name__ == "__main__":
    sys.exit(main())
