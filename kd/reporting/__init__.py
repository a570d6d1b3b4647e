"""What people take away of a run: a report to read and print, and everything of it as a zip."""
