"""What objective.py is made of."""
