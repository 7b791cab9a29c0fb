"""Central claims of papers as small, seeded experiments: one module per paper, named by its slug.

A module states what is expected before it measures:

    CLAIM = Claim(
        statement="...",                                  # what the paper says
        baseline="...",                                   # what it is compared with
        expect=(Expect("gain", at_least=0.02, unit="accuracy"),),
    )

    def measure(seed: int) -> dict[str, float]: ...       # {"gain": ..., anything else worth reading}

`anyformer claim SLUG` runs it and keeps the result in `results/SLUG.json`.
"""
