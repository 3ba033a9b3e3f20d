"""`python -m mmrec` is `mmrec`, for where scripts are not on the path.

Python wants this file under this name; like `__init__.py` it comes from no notebook."""
import sys
from .cli import main

if __name__ == "__main__": sys.exit(main())
