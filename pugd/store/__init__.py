"""ClickHouse, embedded or a server."""
