"""Everything that is kept on disk: files, and what they hold."""
