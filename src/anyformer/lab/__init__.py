"""The laboratory: train, compare, profile, and re-run the claims of papers."""
