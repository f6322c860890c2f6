"""``python -m fedlease`` is ``fedlease``."""

from fedlease.cli import main

if __name__ == "__main__":
    main()
