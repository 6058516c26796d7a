"""Journal rows become ClickHouse columns."""
