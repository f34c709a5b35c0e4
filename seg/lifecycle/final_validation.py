"""A run that `max_steps` ends before its first validation is validated at its end."""

from typing import Any

import lightning as L


class FinalValidation(L.Callback):
    """Asks for a validation after the last step of a run that would end without any.

    Otherwise nothing would be known of its weights, and none be kept as the best.
    """

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Stop as a callback stops a run, which has Lightning validate first."""
        at_end = trainer.global_step == trainer.max_steps
        if at_end and not any(name.startswith("val/") for name in trainer.callback_metrics):
            trainer.should_stop = True
