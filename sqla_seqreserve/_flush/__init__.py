"""The flush: SQLAlchemy's unit of work, with one step replaced by this package's own."""
