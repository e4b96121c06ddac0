"""Several listeners on one database: their names, which one leads what, and which are gone."""
