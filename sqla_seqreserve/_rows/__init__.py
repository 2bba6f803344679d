"""What is known of a class's rows before they are sent. No I/O happens here."""
