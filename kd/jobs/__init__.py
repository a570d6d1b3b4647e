"""The queue of trainings and long computations, on this machine or on a Ray cluster."""
