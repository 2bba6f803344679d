"""The flush: SQLAlchemy's unit of work, with the one step of it that is ours."""
