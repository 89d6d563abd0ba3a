"""``python -m aspk``."""

from aspk.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
