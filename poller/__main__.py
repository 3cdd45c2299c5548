"""`python -m poller`, the same as the console script."""

from poller.cli import main

if __name__ == "__main__":
    main()
