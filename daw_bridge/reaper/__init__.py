"""REAPER: its project files, a running REAPER, what is put into it, and the helper process of its actions."""
