"""How rows are sent, and what the database filled in is read back."""
