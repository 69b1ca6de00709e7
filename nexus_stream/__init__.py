"""nexus-stream: one clean, current record per prospect from a website's chat conversations."""

__version__ = "0.1.0"
