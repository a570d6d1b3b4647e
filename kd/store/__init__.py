"""Storage on disk: runs, their files, and the caches' row files."""
