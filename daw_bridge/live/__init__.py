"""Ableton Live: its sets, a running Live, and the Remote Script that is put into it."""
