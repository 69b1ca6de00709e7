"""The console's pages and JSON API."""
