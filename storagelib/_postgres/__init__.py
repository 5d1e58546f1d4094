"""PostgreSQL without waiting: encoding, statements, the exchange of messages and faults; both twins stand on it."""
