"""The benchmark: items, systems, measures by item, tables; and speed."""
