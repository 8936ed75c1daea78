"""trtrun --view: a page that shows the run, takes boxes drawn on it, and pauses or stops it."""
