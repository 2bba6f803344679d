"""The ways to write payments beside ours and stock SQLAlchemy's, a file for each library."""
