"""Tools that come with the platform: one per file, its schema made from its type hints."""
