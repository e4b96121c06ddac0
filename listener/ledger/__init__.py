"""What this installation knows: objects it has seen, objects it wrote, runs and the commands given to them."""
