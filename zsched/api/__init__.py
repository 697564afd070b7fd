"""The REST side: a small Falcon app. Reads go to the store by each thread's own connection, writes to the inbox."""
