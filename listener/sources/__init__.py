"""Where events come from. Every source feeds the same inbox."""
