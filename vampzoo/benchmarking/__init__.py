"""How fast it is, beside what others would use. Nothing else imports this room."""
