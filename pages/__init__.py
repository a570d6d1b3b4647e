"""The pages: one question each. Streamlit lives here and in dashboard.py only."""
