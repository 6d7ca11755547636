"""What models learn from: kits, rhythms, loops, packs of them, and synthesis."""
