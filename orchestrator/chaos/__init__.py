"""A storm over real processes, and a verdict on what is left: see CONTRIBUTING.md."""
