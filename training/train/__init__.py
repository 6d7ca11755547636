"""One trainer a stage, its losses, and what all trainers have in common."""
