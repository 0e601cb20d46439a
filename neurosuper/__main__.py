"""`python -m neurosuper` is the command `neurosuper`, also where the folder of scripts is not on the path."""

import sys

from neurosuper.cli import main

if __name__ == "__main__":
    sys.exit(main())
