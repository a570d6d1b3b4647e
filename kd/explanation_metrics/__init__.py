"""What explanations are judged by, each beside its chance level: no criterion knows of runs, and none of another."""
