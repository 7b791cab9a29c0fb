"""`python -m anyformer` is the command `anyformer`; torchrun starts it in many processes."""

from __future__ import annotations

import os
import sys

from anyformer.cli.main import main

code = main()
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    from anyformer.lab.train.distributed import leave

    leave(code)
sys.exit(code)
