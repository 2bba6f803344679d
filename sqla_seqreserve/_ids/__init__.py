"""Which sequence fills which column, as the database has it, and the statement that takes ids."""
