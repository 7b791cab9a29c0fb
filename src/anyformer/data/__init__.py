"""Sets that ship with libraries or are generated, readers of people's own files, tokenizers and transforms."""
