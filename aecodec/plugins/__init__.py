"""Plugins for other libraries."""
