"""What the processes of a run share: sums, shards, failures. Losses and all above may import it."""
