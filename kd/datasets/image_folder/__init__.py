"""Class folders on disk or in a zip."""
