"""Several listeners on one database: who is who, who leads what, whose work is orphaned."""
