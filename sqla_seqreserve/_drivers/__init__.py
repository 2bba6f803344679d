"""What a driver can do beyond what SQLAlchemy asks of it: one file a driver."""
