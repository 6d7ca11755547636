"""Scores of each model, and the measures that they and the benchmark use."""
