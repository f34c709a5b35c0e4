"""From labels to figures: counts and scores. Training and all above may import it."""
