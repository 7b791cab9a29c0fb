"""`python -m anyformer` is the command `anyformer`."""

from __future__ import annotations

import sys

from anyformer.cli.main import main

sys.exit(main())
