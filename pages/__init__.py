"""The pages: one question each. Streamlit lives here and in dashboard.py only."""

from kd.torch_utils import compute

compute.wait_without_spinning()  # every page script imports from here before anything that imports torch
