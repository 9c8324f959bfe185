"""The pretraining script with a witness: what each rank does in each step goes to a file, and faults come on order.

    WITNESS='{"folder": "witness"}' python pretraining_run.py model.train_ds.manifest_filepath=... ...

`WITNESS` is JSON: `folder` for the files (`rank0.jsonl`, ...); `kill_at`, the number of the batch before which the
process kills itself; `without_targets`, the `[rank, batch]` that gets no mask.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "examples/asr/speech_pretraining/masked_token_pred_pretrain.py"


def run_in_this_process(options: list[str], folder: str, witness: dict) -> None:
    """Runs the script as `python pretraining_run.py *options` would in `folder`; what it prints goes to `printed`."""
    os.setsid()  # so that whoever started it can end all of its ranks at once
    os.chdir(folder)
    with open("printed", "ab") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    os.environ["WITNESS"] = json.dumps(witness)
    sys.argv = [__file__, *options]
    runpy.run_path(__file__, run_name="__main__")


def main(witness: dict) -> None:
    import lightning.pytorch as pl
    import torch

    from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel  # noqa: F401  before Trainer is replaced

    torch.set_num_threads(1)

    class Witness(pl.Callback):
        def setup(self, trainer, model, stage):
            self.file = open(Path(witness["folder"]) / f"rank{trainer.global_rank}.jsonl", "a", buffering=1)

        def on_train_batch_start(self, trainer, model, batch, batch_idx):
            if model.context_sampler.count == witness.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            self.mask_prob = model.mask_processor.mask_prob
            if [trainer.global_rank, model.context_sampler.count] == witness.get("without_targets"):
                model.mask_processor.mask_prob = 0.0

        def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
            model.mask_processor.mask_prob = self.mask_prob
            line = {
                "batch": model.context_sampler.count - 1,
                "context": model.current_att_context,
                "loss": float(outputs["loss"]),
                "weight": float(weight_of(model)),
                "task": "masked" if model.attention_context.remainder < 0.5 else "future",
            }
            self.file.write(json.dumps(line) + "\n")

        def on_validation_end(self, trainer, model):
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "val_" in name}
            self.file.write(json.dumps({"validation": metrics}) + "\n")

    def weight_of(model):
        weight = next(model.decoder.parameters())
        return (weight.full_tensor() if hasattr(weight, "full_tensor") else weight).detach().double().abs().sum()

    class WitnessedTrainer(pl.Trainer):
        def __init__(self, **options):
            super().__init__(callbacks=[Witness()], **options)
            sys.argv[0] = __file__  # what Lightning starts the other ranks with

    pl.Trainer = WitnessedTrainer
    runpy.run_path(str(SCRIPT), run_name="__main__")


if __name__ == "__main__":
    main(json.loads(os.environ["WITNESS"]))
