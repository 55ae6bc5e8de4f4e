"""How a trained policy does on what it never saw, as it is and after a little practice."""
