"""What a tracker is: one folder for each family."""
