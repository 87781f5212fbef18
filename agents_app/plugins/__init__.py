"""Agents and tools of the operator's own: files in a folder, and installed packages."""
