"""What is claimed about speed, measured against peers or the plain way in one run."""
