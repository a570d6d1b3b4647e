"""Teacher outputs for a student in training, and their cache on disk."""
