"""One trainer a stage, its losses, and what all trainers share."""
