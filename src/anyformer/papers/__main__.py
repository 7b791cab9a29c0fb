"""`python -m anyformer.papers` writes the files that are derived from the cards."""

from __future__ import annotations

import sys

from anyformer.papers.derive import main

sys.exit(main())
