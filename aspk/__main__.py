"""``python -m aspk``."""

import os

if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun: PyTorch doubts a flag that networks of a space need
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from aspk.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
