"""Ardour: what is put into it, and the jobs of its actions."""
